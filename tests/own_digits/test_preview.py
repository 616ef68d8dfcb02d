import os

import numpy as np
import pytest
from drawing import draw, png
from PIL import Image
from scipy import ndimage

from common.command_line import UserError
from common.files import check_can_write
from own_digits.preview import draw_answers, mosaic
from own_digits.reader import DIGITS, Answer, read_number

MARK = b"Title\0predict.py"  # by which predict.py knows its own previews
BLUE = 100  # the grey level of the best bar


def test_preview_shows_each_picture_its_image_and_its_probabilities(reference, tmp_path):
    path = tmp_path / "preview.png"
    for digits in ([7], [7, 3]):  # the second one replaces the first
        answers = [(f"{digit}.png", read_number(reference, png(1 - draw(digit)))) for digit in digits]
        draw_answers(path, answers, DIGITS, "a test")
        check_can_write("--preview", path, ".png", MARK)
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        rows = np.array_split(pixels[90:], len(digits))
        for row, digit in zip(rows, digits, strict=True):
            picture, image, bars = np.split(row, [row.shape[1] // 4, row.shape[1] // 2], axis=1)
            assert picture.min() < 50
            rows_of_image, columns_of_image = (np.nonzero((image == 0).mean(axis=axis) > 0.3)[0] for axis in (1, 0))
            field = image[rows_of_image.min() : rows_of_image.max(), columns_of_image.min() : columns_of_image.max()]
            assert 0.05 < (field > 200).mean() < 0.4  # the digit, on black
            columns_of_bars = np.nonzero((abs(bars.astype(int) - BLUE) < 3).sum(axis=0) > 20)[0]
            assert columns_of_bars.mean() / bars.shape[1] == pytest.approx(0.17 + 0.077 * digit, abs=0.04)


def test_preview_of_a_number_has_a_box_around_each_digit_and_all_that_the_network_sees(reference, tmp_path):
    ink = np.hstack([draw(digit, size=200) for digit in (4, 0, 7)])
    draw_answers(
        tmp_path / "preview.png", [("a.png", answer := read_number(reference, png(1 - ink)))], DIGITS, "a test"
    )
    with Image.open(tmp_path / "preview.png") as image:
        red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")).astype(int), 2, 0)
    _, boxes = ndimage.label((red > green + 100) & (red > blue + 100))
    assert boxes == 3
    assert mosaic(answer).shape == (28, 84)
    two_rows = Answer(answer.picture, [answer.rows[0], answer.rows[0][:1]])
    assert mosaic(two_rows).shape == (56, 84)
    assert mosaic(two_rows)[28:, 28:].max() == 0


def test_preview_replaces_nothing_but_an_earlier_preview(tmp_path):
    Image.new("L", (30, 30)).save(tmp_path / "picture.png")
    (tmp_path / "notes.png").write_text("no picture")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("picture.png", "notes.png", "pipe.png"):
        with pytest.raises(UserError, match=f"would overwrite .*{name}"):
            check_can_write("--preview", tmp_path / name, ".png", MARK)
    with pytest.raises(UserError, match="File name too long"):
        check_can_write("--preview", tmp_path / ("n" * 300 + ".png"), ".png", MARK)
    check_can_write("--preview", tmp_path / "new.png", ".png", MARK)


@pytest.mark.parametrize("name", ["preview.jpg", "preview"])
def test_preview_is_a_png(tmp_path, name):
    with pytest.raises(UserError, match="must be the name of a PNG file"):
        check_can_write("--preview", tmp_path / name, ".png", MARK)


def test_preview_of_many_pictures_shows_the_first_ones_and_says_so(reference, tmp_path):
    answer = read_number(reference, png(1 - draw(7)))
    draw_answers(tmp_path / "preview.png", [("7.png", answer)] * 3, DIGITS, "a test", max_shown=2)
    draw_answers(tmp_path / "two.png", [("7.png", answer)] * 2, DIGITS, "a test")
    with Image.open(tmp_path / "preview.png") as three, Image.open(tmp_path / "two.png") as two:
        assert three.size == two.size
        assert three.tobytes() != two.tobytes()
