"""From any picture to MNIST's form. What a test draws, the reference weights must read: all ten digits."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from drawing import draw
from PIL import Image
from scipy import ndimage

from command_line import UserError
from dataset import load_data, to_float
from digit_image import BOX, CENTRE, digit_image, read_picture
from evaluate import evaluate
from predict import REFERENCE, load_weights, read_digit

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


@pytest.fixture(scope="module")
def model():
    return load_weights(REFERENCE)


def png(pixels: np.ndarray) -> io.BytesIO:
    """Return a PNG file of floats in [0, 1], (H, W) or (H, W, 3)."""
    return as_file(Image.fromarray(np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8)))


def as_file(image: Image.Image, kind: str = "png", **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file


def assert_read(model, picture_of) -> None:
    """Check that the network reads each digit from the file that picture_of(digit) returns."""
    assert [read_digit(model, picture_of(digit)).digits[0] for digit in range(10)] == list(range(10))


@pytest.mark.parametrize("polarity", ["dark", "light"])
@pytest.mark.parametrize("drawing", DRAWINGS)
def test_drawn_digits_are_read(model, drawing, polarity):
    ink = {digit: draw(digit, **DRAWINGS[drawing]) for digit in range(10)}
    assert_read(model, lambda digit: png(1 - ink[digit] if polarity == "dark" else ink[digit]))


def photo(ink, light=None, lines=0.0, squares=0.0, noise=0.0, pen=0.15) -> np.ndarray:
    """Return a photo, (H, W), of ink on paper. light falls on it; lines and squares are printed that dark."""
    y, x = np.mgrid[: len(ink), : len(ink)]
    paper = np.ones_like(ink)
    paper[(y + x // 20) % 45 < 2] -= max(lines, squares)  # a little tilted
    paper[(x - y // 20) % 45 < 2] -= squares * (paper[(x - y // 20) % 45 < 2] == 1)
    brightness = 0.9 * (1 if light is None else light(x / len(ink), y / len(ink)))
    random = np.random.default_rng(0)
    return brightness * (paper * (1 - ink) + pen * ink) + noise * random.standard_normal(ink.shape)


PHOTOS = {
    "uneven light": {"light": lambda x, y: 0.4 + 0.6 * x},
    "soft shadow": {"light": lambda x, y: 1 - 0.5 / (1 + np.exp(12 * (x + y - 1)))},
    "sharp shadow": {"light": lambda x, y: np.where(x + 0.3 * y > 0.6, 1, 0.5)},
    "pencil": {"pen": 0.7},
    "ruled paper": {"lines": 0.3},
    "squared paper": {"squares": 0.3},
    "strongly squared paper": {"squares": 0.5},
    "noise": {"noise": 0.15},
    "all of them": {"light": lambda x, y: np.where(x + 0.3 * y > 0.6, 1, 0.6), "squares": 0.3, "noise": 0.03},
}


@pytest.mark.parametrize("kind", PHOTOS)
def test_photos_are_read(model, kind):
    assert_read(model, lambda digit: png(photo(draw(digit, pen=14, height=0.4), **PHOTOS[kind])))


def test_digit_is_found_beside_a_table_and_a_thumb(model):
    def picture_of(digit):
        paper = photo(draw(digit, pen=10, height=0.3), noise=0.02)
        paper[:, :60] = 0.25
        paper[340:, 150:250] = 0.4
        return png(paper)

    assert_read(model, picture_of)


def test_digit_at_the_edge_is_read(model):
    assert_read(model, lambda digit: png(1 - draw(digit, height=0.5, offset=(0, -0.27))))


def test_specks_are_no_digit(model):
    def picture_of(digit):
        picture = 1 - draw(digit, height=0.4)
        picture[20:24, 20:24] = picture[370:373, 200:203] = 0
        return png(picture)

    assert_read(model, picture_of)


def test_digit_in_pieces_is_read_whole(model):
    def picture_of(digit):
        picture = 1 - draw(digit)
        picture[::60] = picture[1::60] = picture[2::60] = 1
        return png(picture)

    assert_read(model, picture_of)


COLOURS = {
    "blue on yellow": ((30, 60, 200), (250, 240, 120)),
    "red on equally bright green": ((255, 0, 0), (0, 130, 0)),
    "yellow on white": ((230, 220, 30), (255, 255, 255)),
    "white on green": ((255, 255, 255), (20, 90, 50)),
}


@pytest.mark.parametrize("colours", COLOURS)
def test_coloured_digits_are_read(model, colours):
    pen, paper = (np.array(colour) / 255 for colour in COLOURS[colours])
    assert_read(model, lambda digit: png(paper + draw(digit)[..., None] * (pen - paper)))


def grey(digit: int) -> Image.Image:
    return Image.fromarray(np.uint8(255 * (1 - draw(digit))))


def transparent(digit: int, colour: int, paper: int = 0) -> Image.Image:
    alpha = np.uint8(255 * draw(digit))
    return Image.fromarray(np.dstack([np.where(alpha, np.uint8(colour), np.uint8(paper))] * 3 + [alpha]))


MODES = {
    "1": lambda digit: grey(digit).convert("1"),
    "L": grey,
    "LA": lambda digit: transparent(digit, 0).convert("LA"),
    "P": lambda digit: grey(digit).convert("P", palette=Image.Palette.ADAPTIVE),
    "palette with a transparent colour": lambda digit: grey(digit).quantize(2),
    "RGB": lambda digit: grey(digit).convert("RGB"),
    "dark on transparent": lambda digit: transparent(digit, 0),
    "light on transparent": lambda digit: transparent(digit, 255),
    "dark on transparent white": lambda digit: transparent(digit, 0, 255),
    "16-bit": lambda digit: Image.fromarray(257 * np.uint16(grey(digit))),
    "12 of 16 bits": lambda digit: Image.fromarray(16 * np.uint16(grey(digit))),
}


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_any_mode_are_read(model, mode):
    options = {"transparency": 0} if "palette" in mode else {}
    assert_read(model, lambda digit: as_file(MODES[mode](digit), **options))


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff", "webp", "mpo"])
def test_pictures_of_any_format_are_read(model, kind):
    assert_read(model, lambda digit: as_file(grey(digit).convert("RGB"), kind))


ROTATIONS = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


@pytest.mark.parametrize("orientation", ROTATIONS)
def test_picture_that_a_phone_turned_is_read_upright(model, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_read(model, lambda digit: as_file(grey(digit).transpose(ROTATIONS[orientation]), "jpeg", exif=exif))


def strokes_width(image: np.ndarray) -> float:
    """Return the width of strokes in an image, (28, 28): twice its area by its outline, in pixels."""
    large = ndimage.zoom(image / 255, 8, order=1) > 0.5
    outline = large & ~ndimage.binary_erosion(large)
    return 2 * large.sum() / outline.sum() / 8


@pytest.mark.parametrize("pen", [1, 12, 80])
@pytest.mark.parametrize("digit", range(10))
def test_form_is_mnists_box_centre_of_mass_and_stroke(digit, pen):
    image = digit_image(read_picture(png(1 - draw(digit, pen=pen, offset=(0.1, -0.15)))))
    rows, columns = np.nonzero(image)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == BOX
    assert np.array(ndimage.center_of_mass(image)) + 0.5 == pytest.approx([CENTRE, CENTRE], abs=0.51)
    assert 1.6 < strokes_width(image) < 5.3
    assert image.max() > 240


@pytest.mark.parametrize("digit", range(10))
def test_image_of_mnists_form_stays_as_it_is(digit):
    for pen in (1, 12, 60):
        image = digit_image(read_picture(png(draw(digit, pen=pen))))
        for same in (image, 255 - image):
            assert np.array_equal(digit_image(Image.fromarray(same).convert("RGB")), image)


EMPTY = {
    "white": np.ones((300, 300)),
    "black": np.zeros((300, 300)),
    "white 28x28": np.ones((28, 28)),
    "gradient": np.tile(np.linspace(0.4, 0.9, 500), (500, 1)),
    "noise": 0.7 + 0.1 * np.random.default_rng(0).standard_normal((500, 500)),
    "noise 28x28": 0.6 + 0.1 * np.random.default_rng(0).standard_normal((28, 28)),
    "narrow": np.ones((9, 900)),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_empty_picture_is_refused(kind):
    with pytest.raises(UserError, match="nothing on the picture"):
        digit_image(read_picture(png(EMPTY[kind])))


@pytest.mark.filterwarnings("error")
def test_picture_of_anything_gives_an_image_or_an_error():
    random = np.random.default_rng(0)
    for number in range(150):
        height, width = random.integers(8, 60, 2)
        pixels = random.choice([0.0, 0.5, 1.0], (height, width), p=random.dirichlet([0.3, 0.3, 0.3]))
        if number % 2:
            pixels = ndimage.gaussian_filter(pixels, random.uniform(0, 3))
        try:
            image = digit_image(read_picture(png(pixels)))
        except UserError:
            continue
        assert image.shape == (28, 28)
        assert image.dtype == np.uint8


def test_file_that_is_no_picture_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    content = as_file(grey(3)).getvalue()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    Image.new("L", (20, 3)).save(tmp_path / "tiny.png")
    for name, message in [
        ("text.png", "this is no picture"),
        ("cut.png", "truncated|damaged"),
        ("tiny.png", "too small: 20 x 3"),
        ("none.png", "No such file"),
        (".", "directory"),
    ]:
        with pytest.raises(UserError, match=message):
            read_picture(tmp_path / name)


@pytest.mark.parametrize("side", [10_000, 20_000])  # Pillow warns of the one and refuses the other
def test_picture_bomb_is_refused_unopened(side):
    bomb = as_file(Image.new("1", (side, side)))
    with pytest.raises(UserError, match="pixels are too many"):
        read_picture(bomb)


def test_2000_damaged_pictures_are_read_or_refused():
    random = np.random.default_rng(0)
    files = [as_file(grey(3).resize((60, 60)).convert("RGB"), kind).getvalue()
             for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp")]  # fmt: skip
    refused = 0
    for number in range(2000):
        content = bytearray(files[number % len(files)])
        start = random.integers(len(content) // (1 + number % 7))
        for place in range(start, min(len(content), start + random.integers(1, 20))):
            content[place] = random.integers(256)
        try:
            read_picture(io.BytesIO(content[: random.integers(len(content) // 2, 2 * len(content))]))
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 500 < refused < 2000


@pytest.fixture(scope="module")
def mnist_test(mnist_dir):
    return load_data("mnist", mnist_dir, 5000).test


def test_images_of_mnist_stay_as_they_are(mnist_test):
    for pixels in mnist_test.images.numpy()[::10]:
        for same in (pixels, 255 - pixels):
            assert np.array_equal(digit_image(Image.fromarray(same).convert("RGB")), pixels)


@pytest.mark.parametrize("polarity", ["dark", "light"])
@pytest.mark.parametrize(("size", "canvas"), [(28, 56), (84, 84), (100, 250), (600, 800)])
def test_images_of_mnist_are_read_as_well_at_other_sizes_and_places(model, mnist_test, size, canvas, polarity):
    chosen = slice(0, None, 100)
    random = np.random.default_rng(0)
    images = []
    for pixels in mnist_test.images.numpy()[chosen]:
        picture = Image.new("L", (canvas, canvas))
        place = random.integers(canvas - size + 1, size=2)
        picture.paste(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC), tuple(place.tolist()))
        values = np.asarray(picture)
        images.append(digit_image(read_picture(png((values if polarity == "light" else 255 - values) / 255))))
    with torch.inference_mode():
        answers = model(to_float(torch.from_numpy(np.stack(images)))).argmax(dim=1)
    wrong = (answers != mnist_test.labels[chosen]).sum()
    assert wrong <= 100 - evaluate(model, mnist_test).correct / 100 + 1


def test_digits_that_people_drew_are_read(model):
    if not (folder := os.environ.get("OWN_DIGITS_DIR")):
        pytest.skip("wants OWN_DIGITS_DIR: a folder of pictures whose names end with their digits")
    for path in Path(folder).glob("*.png"):
        assert str(read_digit(model, path).digits[0]) == path.stem[-1], path
