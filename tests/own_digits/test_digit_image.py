"""From any picture to MNIST's form. What a test draws must be read with the weights in results/reading."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from drawing import draw, misread, png
from PIL import Image
from scipy import ndimage

from benchmarks.pictures import HARD, PHOTOS, SHAPES, half_dark, photograph, reshape, scatter, with_table_and_thumb
from common.command_line import UserError
from evaluate import evaluate
from mnist.dataset import load_data
from model import DigitCNN
from own_digits.digit_image import BOX, CENTRE
from own_digits.ink import find_candidates
from own_digits.number import best_reading, read_digits
from own_digits.picture_file import read_picture
from own_digits.reader import DIGITS, read_number
from training.config import TrainConfig
from training.run_files import load_weights


def image_of(picture: Image.Image, model: DigitCNN) -> np.ndarray:
    """Return what the network sees of the one digit in a picture."""
    ((digit,),) = read_digits(picture, model)
    return digit.image


DRAWINGS = {
    "pen": {},
    "one-pixel line": {"pen": 1},
    "fine pen": {"pen": 3},
    "felt pen": {"pen": 40},
    "marker": {"pen": 60},
    "small": {"size": 800, "height": 0.08, "pen": 4},
    "large": {"height": 0.95},
    "in a corner": {"height": 0.25, "pen": 6, "offset": (-0.35, 0.35)},
    "48 pixels": {"size": 48, "pen": 3},
    "1600 pixels": {"size": 1600, "pen": 40},
}


@pytest.mark.parametrize("polarity", ["dark", "light"])
@pytest.mark.parametrize("drawing", DRAWINGS)
def test_drawn_digits_are_read(reference, digits, drawing, polarity):
    ink = {digit: draw(digit, **DRAWINGS[drawing]) for digit in digits}
    assert misread(reference, digits, lambda digit: png(1 - ink[digit] if polarity == "dark" else ink[digit])) == []


HARD_PHOTOS = {
    "pencil and noise": lambda ink: photograph(ink, pen=0.6, noise=0.12),
    "pencil and a sharp shadow": lambda ink: photograph(ink, pen=0.6, light=half_dark),
    "lines of 2/3 the pen's darkness": lambda ink: photograph(ink, squares=0.6),
}


@pytest.mark.parametrize("kind", HARD_PHOTOS)
def test_hard_photos_are_read(reference, digits, kind):
    assert misread(reference, digits, lambda digit: png(HARD_PHOTOS[kind](draw(digit, pen=10, height=0.4)))) == []


def test_thin_digit_beside_a_thumb_is_read(reference, digits):
    assert misread(reference, digits, lambda digit: png(with_table_and_thumb(draw(digit, pen=8, height=0.3)))) == []


def test_thumb_that_nearly_touches_a_digit_is_no_piece_of_it(reference, digits):
    def picture_of(digit):
        photo = photograph(draw(digit, pen=10, height=0.4))
        photo[310:, 150:250] = 0.3
        return png(photo)

    assert misread(reference, digits, picture_of) == []


def test_digit_that_runs_off_the_picture_is_read(reference, digits):
    height = 295  # pixels, a few less than to its foot
    assert misread(reference, digits, lambda digit: png(photograph(draw(digit, height=0.5))[:height])) == []
    ruled = misread(reference, digits, lambda digit: png(photograph(draw(digit, height=0.5), lines=0.5)[:height]))
    assert ruled == []


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("seed", range(2))
def test_strips_edges_pale_ink_colours_and_frames_are_no_hindrance(reference, digits, kind, seed):
    def picture_of(digit):
        ink = draw(digit, size=[150, 300][seed], height=0.5, pen=[8, 14][seed])
        return png(HARD[kind](ink, np.random.default_rng(10 * seed + digit)))

    assert len(misread(reference, digits, picture_of)) <= len(digits) // 10  # 97% are read, or more (pictures.md)


@pytest.mark.parametrize("shape", SHAPES)
def test_unusual_shapes_are_read(reference, shape):
    image = np.round(255 * draw(SHAPES[shape], size=28, height=0.7, pen=2)).astype(np.uint8)

    def picture_of_seed(seed):
        return png(1 - reshape(image, np.random.default_rng(seed), shape) / 255)

    answers = [read_number(reference, picture_of_seed(seed)).number(DIGITS) for seed in range(10)]
    assert answers == 10 * [str(SHAPES[shape])]


def test_inside_of_a_digit_on_a_bright_sheet_is_not_taken_for_ink(reference):
    for digit in (0, 6, 9):
        sheet = np.ones((400, 400))
        sheet[60:340, 100:300] = 0.85 * (1 - draw(digit, height=0.7, pen=10)[60:340, 100:300])
        assert misread(reference, [digit], lambda digit, sheet=sheet: png(sheet)) == []


@pytest.mark.parametrize("height", [0.3, 0.4])
def test_lit_part_of_a_sheet_in_a_shadow_is_not_taken_for_a_digit(reference, height):
    photo = PHOTOS["a sheet on a table, sharp shadow"]
    ink = {digit: draw(digit, pen=10, height=height, offset=(0.12, 0)) for digit in range(10)}
    assert misread(reference, range(10), lambda digit: png(photo(ink[digit]))) == []


@pytest.mark.parametrize("kind", PHOTOS)
def test_photos_are_read(reference, digits, kind):
    assert misread(reference, digits, lambda digit: png(PHOTOS[kind](draw(digit, pen=14, height=0.4)))) == []


@pytest.mark.parametrize("kind", [kind for kind in PHOTOS if "table" in kind or "frame" in kind])
def test_weights_of_mnist_alone_find_digits_on_a_table_and_in_a_frame(digits, kind):
    load_weights(REPOSITORY / "results" / "default" / "weights.pt", model := DigitCNN().eval())
    assert misread(model, digits, lambda digit: png(PHOTOS[kind](draw(digit, pen=10, height=0.4)))) == []


def test_digit_at_the_edge_is_read(reference, digits):
    assert misread(reference, digits, lambda digit: png(1 - draw(digit, height=0.5, offset=(0, -0.27)))) == []


def test_stroke_along_an_edge_comes_after_a_smaller_one_inside():
    picture = Image.new("RGB", (200, 200), "white")
    picture.paste("black", (0, 20, 12, 160))
    picture.paste("black", (120, 60, 132, 160))
    candidates = find_candidates(picture, count=10)
    assert candidates[0].box == pytest.approx([60, 120, 160, 132], abs=3)
    assert any(candidate.box == pytest.approx([20, 0, 160, 12], abs=3) for candidate in candidates[1:])


def test_specks_are_no_digit(reference, digits):
    def picture_of(digit):
        picture = 1 - draw(digit, height=0.4)
        picture[20:24, 20:24] = picture[370:373, 200:203] = 0
        return png(picture)

    assert misread(reference, digits, picture_of) == []


def test_digit_in_pieces_is_read_whole(reference, digits):
    def picture_of(digit):
        picture = 1 - draw(digit)
        picture[::60] = picture[1::60] = picture[2::60] = 1
        return png(picture)

    assert misread(reference, digits, picture_of) == []


COLOURS = {
    "blue on yellow": ((30, 60, 200), (250, 240, 120)),
    "red on equally bright green": ((255, 0, 0), (0, 130, 0)),
    "yellow on white": ((230, 220, 30), (255, 255, 255)),
    "white on green": ((255, 255, 255), (20, 90, 50)),
}


@pytest.mark.parametrize("colours", COLOURS)
def test_coloured_digits_are_read(reference, digits, colours):
    pen, paper = (np.array(colour) / 255 for colour in COLOURS[colours])
    assert misread(reference, digits, lambda digit: png(paper + draw(digit)[..., None] * (pen - paper))) == []


def strokes_width(image: np.ndarray) -> float:
    """Return the width of strokes in an image, (28, 28): twice its area by its outline, in pixels."""
    large = ndimage.zoom(image / 255, 8, order=1) > 0.5
    outline = large & ~ndimage.binary_erosion(large)
    return 2 * large.sum() / outline.sum() / 8


@pytest.mark.parametrize("pen", [1, 12, 80])
@pytest.mark.parametrize("digit", range(10))
def test_form_is_mnists_box_centre_of_mass_and_stroke(reference, digit, pen):
    image = image_of(read_picture(png(1 - draw(digit, pen=pen, offset=(0.1, -0.15)))), reference)
    rows, columns = np.nonzero(image)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == BOX
    assert np.array(ndimage.center_of_mass(image)) + 0.5 == pytest.approx([CENTRE, CENTRE], abs=0.51)
    assert 1.6 < strokes_width(image) < 5.3
    assert image.max() > 240


@pytest.mark.parametrize("digit", range(10))
def test_image_of_mnists_form_stays_as_it_is_unless_it_is_faint(reference, digit):
    for pen in (1, 12, 60):
        image = image_of(read_picture(png(draw(digit, pen=pen))), reference)
        for same in (image, 255 - image):
            assert np.array_equal(image_of(Image.fromarray(same).convert("RGB"), reference), image)
        faint = image_of(Image.fromarray(image // 3).convert("RGB"), reference)
        assert faint.max() > 240


EMPTY = {
    "white": np.ones((300, 300)),
    "black": np.zeros((300, 300)),
    "white 28x28": np.ones((28, 28)),
    "noise": 0.7 + 0.1 * np.random.default_rng(0).standard_normal((500, 500)),
    "noise 28x28": 0.6 + 0.1 * np.random.default_rng(0).standard_normal((28, 28)),
    "narrow": np.ones((9, 900)),
    "salt and pepper": np.random.default_rng(0).choice([0.0, 0.5, 1.0], (400, 400), p=[0.03, 0.94, 0.03]),
    "dot": 1 - draw(1, height=0.01, pen=30),
}
# A field with a frame may get an answer, as docs/own-digits.md says.
EMPTY.update((kind, photo(np.zeros((400, 400)))) for kind, photo in PHOTOS.items() if kind != "a field with a frame")
EMPTY["squared, small and noisy"] = photograph(np.zeros((250, 250)), squares=0.2, noise=0.02)
EMPTY["ruled, wide and noisy"] = photograph(np.zeros((300, 500)), lines=0.6, noise=0.02)
for kind in ("a dark strip along one edge or two", "a frame along the edges"):
    EMPTY[kind] = HARD[kind](np.zeros((300, 300)), np.random.default_rng(0))


@pytest.mark.parametrize("kind", EMPTY)
def test_empty_picture_is_refused(reference, kind):
    with pytest.raises(UserError, match="no digit in the picture"):
        read_digits(read_picture(png(EMPTY[kind])), reference)


@pytest.mark.filterwarnings("error")
def test_picture_of_anything_gives_an_image_or_an_error(reference):
    random = np.random.default_rng(0)
    read = 0
    for number in range(150):
        height, width = random.integers(8, 60, 2) if number else (8, 1600)
        pixels = random.choice([0.0, 0.5, 1.0], (height, width), p=random.dirichlet([0.3, 0.3, 0.3]))
        if number % 2:
            pixels = ndimage.gaussian_filter(pixels, random.uniform(0, 3))
        try:
            rows = read_digits(read_picture(png(pixels)), reference)
        except UserError:
            continue
        assert all((digit.image.shape, digit.image.dtype) == ((28, 28), np.uint8) for row in rows for digit in row)
        read += 1
    assert 0 < read < 100


@pytest.fixture(scope="module")
def mnist_test(mnist_dir):
    return load_data(TrainConfig(), mnist_dir).test


def test_images_of_mnist_stay_as_they_are(reference, mnist_test, exhaustive):
    for pixels in mnist_test.tensors[0].numpy()[:: 10 if exhaustive else 50]:
        for same in (pixels, 255 - pixels):
            assert np.array_equal(image_of(Image.fromarray(same).convert("RGB"), reference), pixels)


@pytest.mark.parametrize("polarity", ["dark", "light"])
@pytest.mark.parametrize(
    ("size", "canvas"),
    [(28, 56), pytest.param(84, 84, marks=pytest.mark.exhaustive), (100, 250)]
    + [pytest.param(600, 800, marks=pytest.mark.exhaustive)],
)
def test_images_of_mnist_are_read_as_well_at_other_sizes_and_places(
    reference, mnist_test, size, canvas, polarity, exhaustive
):
    random, wrong = np.random.default_rng(0), 0
    images, labels = (tensor.numpy()[:: 100 if exhaustive else 500] for tensor in mnist_test.tensors)
    for pixels, label in zip(images, labels, strict=True):
        picture = Image.new("L", (canvas, canvas))
        place = random.integers(canvas - size + 1, size=2)
        picture.paste(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC), tuple(place.tolist()))
        ink = np.asarray(picture) / 255
        wrong += len(misread(reference, [label], lambda _, ink=ink: png(ink if polarity == "light" else 1 - ink)))
    assert wrong <= len(labels) * (1 - evaluate(reference, mnist_test).accuracy) + 1


def test_slanted_black_ones_on_white_are_read(reference, mnist_dir):
    images = load_data(TrainConfig(), mnist_dir).validation.tensors[0].numpy()
    for index in (719, 939, 1728, 3763):
        ink = scatter(images[index], np.random.default_rng(index))
        assert read_number(reference, png(1 - ink)).number(DIGITS) == "1"


def test_digits_that_people_drew_are_read(reference):
    if not (folder := os.environ.get("OWN_DIGITS_DIR")):
        pytest.skip("wants OWN_DIGITS_DIR: a folder of pictures whose names end with their digits")
    paths = list(Path(folder).glob("*.png"))
    assert paths
    for path in paths:
        assert read_number(reference, path).number(DIGITS) == path.stem[-1], path


@pytest.mark.parametrize("classes", [10, 26])
def test_network_that_finds_all_classes_equally_probable_says_nothing_for_a_part(classes):
    picture = read_picture(png(1 - draw(7)))
    (part, *_) = find_candidates(picture, count=1)
    _, _, score = best_reading([part], lambda images: torch.zeros(len(images), classes))
    assert score == pytest.approx(part.score, abs=1e-6)
