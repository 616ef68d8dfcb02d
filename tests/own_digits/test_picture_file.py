"""Pictures of any kind, read. What they show must be read with the weights in results/reading."""

import io
import struct

import numpy as np
import pytest
from drawing import as_file, draw, misread
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, features

from common.command_line import UserError
from own_digits.picture_file import read_picture
from own_digits.reader import DIGITS, read_number


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
def test_pictures_of_any_mode_are_read(reference, digits, mode):
    options = {"transparency": 0} if "palette" in mode else {}
    assert misread(reference, digits, lambda digit: as_file(MODES[mode](digit), **options)) == []


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff", "webp", "mpo", "ppm", "tga", "avif", "jpeg2000"])
def test_pictures_of_any_format_are_read(reference, digits, kind):
    if kind in ("avif", "jpeg2000") and not features.check({"jpeg2000": "jpg_2000"}.get(kind, kind)):
        pytest.skip(f"wants a Pillow that writes {kind}")
    assert misread(reference, digits, lambda digit: as_file(grey(digit).convert("RGB"), kind)) == []


ORIENTATION, X_RESOLUTION = ExifTags.Base.Orientation, ExifTags.Base.XResolution
ROTATIONS = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


@pytest.mark.parametrize("orientation", ROTATIONS)
def test_picture_that_a_phone_turned_is_read_upright(reference, digits, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert (
        misread(
            reference, digits, lambda digit: as_file(grey(digit).transpose(ROTATIONS[orientation]), "jpeg", exif=exif)
        )
        == []
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone_as_pillow_does_it(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    picture = grey(4).crop((0, 0, 90, 60))
    file = as_file(picture, "png", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(file))
    assert np.array_equal(np.asarray(read_picture(file).convert("L")), np.asarray(expected))


def text_as_resolution(digit: int):
    entries = struct.pack("<HHIHH", ORIENTATION, 3, 1, 6, 0) + struct.pack("<HHII", X_RESOLUTION, 2, 9, 38)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4) + b"about 72\0"
    return as_file(grey(digit).transpose(Image.Transpose.ROTATE_90), "jpeg", exif=exif)


def long_comment(digit: int):
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "0" * 2_000_000, zip=True)
    return as_file(grey(digit), pnginfo=info)


def odd_exif_text(digit: int):
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", "\nexif\n  12\nno hexadecimal digits\n")
    return as_file(grey(digit), pnginfo=info)


def empty_alpha(digit: int):
    """A BMP of 32 bits whose alpha channel is 0 everywhere: programs that write such files mean it to be opaque."""
    colours = np.dstack([np.uint8(255 * (1 - draw(digit)))] * 3 + [np.zeros(draw(digit).shape, np.uint8)])
    height, width = colours.shape[:2]
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, width, -height, 1, 32, 3, colours.size, 0, 0, 0, 0) + masks + b"BGRs"
    header = header.ljust(108, b"\0")
    return io.BytesIO(struct.pack("<2sIHHI", b"BM", 122 + colours.size, 0, 0, 122) + header + colours.tobytes())


@pytest.mark.parametrize("picture_of", [text_as_resolution, long_comment, odd_exif_text, empty_alpha])
def test_good_picture_with_odd_metadata_is_read(reference, digits, picture_of):
    assert misread(reference, digits, picture_of) == []


def test_file_that_is_no_picture_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    content = as_file(grey(3)).getvalue()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    Image.new("L", (20, 3)).save(tmp_path / "tiny.png")
    for name, message in [
        ("text.png", "this is not a picture"),
        ("cut.png", "truncated|damaged"),
        ("tiny.png", "too small or too narrow to read: 20 x 3"),
        ("none.png", "No such file"),
        (".", "there is no picture in this folder"),
    ]:
        with pytest.raises(UserError, match=message):
            read_picture(tmp_path / name)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_large_picture_is_read_smaller(reference, kind):
    large = {digit: grey(digit).resize((4000, 3000)) for digit in (3, 7)}
    for digit, image in large.items():
        assert read_picture(as_file(image, kind)).size == (1600, 1200)
        assert read_number(reference, as_file(image, kind)).number(DIGITS) == str(digit)


def test_values_that_are_no_numbers_are_no_ink(reference, digits):
    def picture_of(digit):
        pixels = np.asarray(grey(digit), np.float32) / 255 - 0.5
        pixels[0, :3] = np.nan, np.inf, -np.inf
        return as_file(Image.fromarray(pixels), "tiff")

    assert misread(reference, digits, picture_of) == []


@pytest.mark.parametrize("side", [10_000, 20_000])  # Pillow warns of the one and refuses the other
def test_picture_bomb_is_refused_unopened(side):
    bomb = as_file(Image.new("1", (side, side)))
    with pytest.raises(UserError, match="more than .* pixels"):
        read_picture(bomb)


def test_damaged_pictures_are_read_or_refused(exhaustive):
    random = np.random.default_rng(0)
    files = [as_file(grey(3).resize((60, 60)).convert("RGB"), kind).getvalue()
             for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp")]  # fmt: skip
    refused, count = 0, 2000 if exhaustive else 200
    for number in range(count):
        content = bytearray(files[number % len(files)])
        start = random.integers(len(content) // (1 + number % 7))
        for place in range(start, min(len(content), start + random.integers(1, 20))):
            content[place] = random.integers(256)
        try:
            read_picture(io.BytesIO(content[: random.integers(len(content) // 2, 2 * len(content))]))
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert count / 4 < refused < count
