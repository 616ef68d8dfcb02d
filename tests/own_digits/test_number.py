"""Several digits in a picture. What a test draws must be read with the weights in results/reading."""

import os
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from drawing import draw, png
from scipy import ndimage

from benchmarks.pictures import NUMBERS, photograph, write_number
from common.command_line import UserError
from model import DigitCNN
from own_digits.number import Digit, cheapest_path, seams
from own_digits.reader import DIGITS, read_number
from training.run_files import load_weights


def write(number: str, pen: int = 8, gap: int = 20, heights=(0.7,)) -> np.ndarray:
    """Return the ink of a number's digits beside each other, 120 pixels high, with gaps in pixels and a margin."""
    digits = [draw(int(digit), 120, heights[i % len(heights)], pen) for i, digit in enumerate(number)]
    boxes = [ndimage.find_objects(np.uint8(digit > 0))[0][1] for digit in digits]
    ink = np.zeros((120, (120 + max(0, gap)) * len(number)))
    left = 0
    for digit, columns in zip(digits, boxes, strict=True):
        width = columns.stop - columns.start
        ink[:, left : left + width] = np.maximum(ink[:, left : left + width], digit[:, columns])
        left += width + gap
    return np.pad(ink[:, : left - gap], 60)


def read(model, pixels: np.ndarray) -> str:
    try:
        return read_number(model, png(pixels)).number(DIGITS)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("number", ["05221859", "13", "7777", "1111", "9876543210"])
def test_number_is_read_from_left_to_right(reference, number):
    ink = write(number)
    assert read(reference, 1 - ink) == read(reference, ink) == read(reference, photograph(ink, noise=0.02)) == number


def test_digits_may_differ_in_size_and_stand_on_ruled_paper(reference):
    ink = write("38214", heights=(0.8, 0.5, 0.65))
    assert read(reference, photograph(np.kron(ink, np.ones((2, 2))), lines=0.3)) == "38214"


@pytest.mark.parametrize(("number", "gap", "light"), [
    ("72058", 60, lambda x, y: 0.4 + 0.6 * x),
    ("83058", 60, lambda x, y: 1 - 0.5 / (1 + np.exp(12 * (x + y - 1)))),
    ("61625513", 86, lambda x, y: 1 - 0.66 / (1 + np.exp(4.5 * (x + y - 2)))),  # needs several looks
], ids=["uneven light", "shadow", "wide shadow"])  # fmt: skip
def test_digits_in_the_dark_part_of_a_picture_are_read_with_the_others(reference, number, gap, light):
    assert read(reference, photograph(write(number, gap=gap), light, noise=0.01)) == number


def test_rows_are_read_from_top_to_bottom_with_a_space_between(reference):
    rows = [write(number)[:, :320] for number in ("123", "456", "789")]
    ink = np.vstack([np.pad(row, [(0, 0), (0, 320 - row.shape[1])]) for row in rows])
    assert read(reference, 1 - ink) == "123 456 789"


@pytest.mark.parametrize("number", ["35", "48", "2386"])
def test_digits_that_touch_are_cut(reference, number):
    inks = (write(number, gap=-gap) for gap in range(20))
    ink = next(ink for ink in inks if ndimage.label(ink > 0.5)[1] < len(number))
    assert read(reference, 1 - ink) == number


def test_two_digits_in_28x28_pixels_are_read(reference):
    for number in ("13", "46", "70"):
        ink = write(number, pen=14, gap=25)
        side = max(ink.shape)
        square = np.pad(ink, [((side - length) // 2, (side - length + 1) // 2) for length in ink.shape])
        small = square[: side // 28 * 28, : side // 28 * 28]
        small = small.reshape(28, len(small) // 28, 28, -1).mean(axis=(1, 3))
        assert read(reference, 1 - small / small.max()) == number


def test_signs_specks_and_a_frame_are_no_digits(reference):
    ink = write("52", gap=120)
    middle = ink.shape[0] // 2
    minus = ink.copy()
    minus[middle - 4 : middle + 4, 140:190] = 1
    assert read(reference, 1 - minus) == "52"
    specks = ink.copy()
    specks[20:24, 30:34] = specks[-30:-26, -80:-76] = 1
    assert read(reference, 1 - specks) == "52"
    frame = np.pad(np.pad(ink[40:-40, 40:-40], 4, constant_values=1), 30)
    assert read(reference, 1 - frame) == "52"


def test_boxes_are_where_the_digits_stand_in_the_picture(reference):
    ink = np.zeros((600, 1000))
    for column, digit in [(150, 4), (600, 7)]:
        ink[200:400, column : column + 200] = draw(digit, 200, 0.6, 10)
    for digit, left in zip(read_number(reference, png(1 - ink)).digits, (150, 600), strict=True):
        y, x = ndimage.find_objects(np.uint8(ink[:, left : left + 200] > 0.5))[0]
        expected = [y.start, left + x.start, y.stop, left + x.stop]
        assert digit.box == pytest.approx(np.array(expected), abs=8)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", NUMBERS)
def test_handwritten_numbers_on_paper_are_read(reference, kind):
    """Of drawings instead of MNIST's images, as those need no file; the benchmark has the shares."""
    options, count, _ = NUMBERS[kind]
    wanted = [digit % 10 for digit in range(2, 2 + count)]
    images = np.round([255 * draw(digit, size=28, height=0.7, pen=2) for digit in wanted]).astype(np.uint8)
    pytest.importorskip("skimage")
    ink = write_number(images, np.random.default_rng(0), **options)
    found = read(reference, photograph(ink, noise=0.01)).replace(" ", "")
    assert sum(a == str(b) for a, b in zip(found, wanted, strict=False)) >= count - 1


@pytest.mark.parametrize(("folder", "least"), [("several-digits", 8), ("hard-digits", 13)])
def test_pictures_that_people_made_are_read(reference, folder, least):
    pictures = Path(os.environ.get("OWN_DIGITS_DIR", "none")).parent / folder
    if not pictures.exists():
        pytest.skip(f"wants OWN_DIGITS_DIR with {folder} beside it: pictures whose names begin with their digits")
    read_ones = []
    for path in pictures.glob("*.*g"):
        wanted = [part for part in path.stem.split("_") if part.isdigit()]
        try:
            read_ones.append(read_number(reference, path).number(DIGITS) == " ".join(wanted))
        except UserError:
            read_ones.append(False)
    assert sum(read_ones) >= least


def test_other_weights_read_numbers_too():
    load_weights(REPOSITORY / "results" / "default" / "weights.pt", model := DigitCNN().eval())
    assert read(model, 1 - write("20486")) == "20486"


def test_seam_runs_between_two_discs_that_touch():
    y, x = np.mgrid[:60, :120]
    ink = ((y - 30) ** 2 + (x - 30) ** 2 < 29**2) | ((y - 30) ** 2 + (x - 88) ** 2 < 29**2)
    columns, crossed = seams(ink.astype(float), 8)
    best = crossed.argmin()
    assert columns[30, best] == pytest.approx(59, abs=2)
    assert (columns[:, best] > 20).all() and (columns[:, best] < 100).all()
    assert crossed[best] < 10 < 50 < ink[:, 30].sum()


def test_cheapest_path_is_the_best_of_all_ways_to_read_the_pieces():
    random, count = np.random.default_rng(0), 5
    for _ in range(50):
        skipped, options = random.uniform(0.2, 2, count), {}
        for first, end in combinations(range(count + 1), 2):
            box = np.array([0, 10 * first, 10, 10 * end])
            options[first, end] = random.uniform(0.1, 3), Digit(np.zeros((28, 28)), box, np.ones(10) / 10, 0.0, 0.0)
        cost, found = cheapest_path(skipped, [(*span, *option) for span, option in options.items()])
        assert cost == pytest.approx(min(ways(0, skipped, options)))
        assert all(a.box[3] <= b.box[1] for a, b in pairwise(found))


def ways(start: int, skipped: np.ndarray, options: dict) -> Iterator[float]:
    """Yield what each way to read the pieces from one on costs."""
    if start == len(skipped):
        yield 0.0
        return
    yield from (skipped[start] + rest for rest in ways(start + 1, skipped, options))
    for end in range(start + 1, len(skipped) + 1):
        yield from (options[start, end][0] + rest for rest in ways(end, skipped, options))
