"""Read picture files of all formats that Pillow reads, in any colour mode."""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from common.command_line import UserError

MIN_SIZE = 8  # pixels on the shorter side
MAX_SIZE = 1600  # pixels on the longer side; larger pictures are shrunk
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation


def find_pictures(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the pictures in a folder and its subfolders, recognised by their extensions, and the other files."""
    extensions = {extension for extension, name in Image.registered_extensions().items() if name in Image.OPEN}
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    pictures = [path for path in files if path.suffix.lower() in extensions]
    return pictures, sorted(set(files) - set(pictures))


def read_picture(file: Path | BinaryIO) -> Image.Image:
    """Return a picture file's content, upright, in mode RGB, shrunk to at most 1600x1600 pixels.

    Raises UserError when the file can't be read, is damaged or not a picture, or the picture is too large or too small.
    """
    if isinstance(file, Path) and file.is_dir():
        raise UserError("there is no picture in this folder")
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # a long comment is no reason to refuse a picture
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                image.draft(None, (MAX_SIZE, MAX_SIZE))  # decodes a large JPEG at half its size or less
                image.load()
                image = to_rgb(turn_upright(image))
    except Image.UnidentifiedImageError as error:
        raise UserError("this is not a picture, or Pillow can't read its format: save it as PNG or JPEG") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"the picture has more than {Image.MAX_IMAGE_PIXELS:,} pixels: make it smaller") from error
    except OSError as error:
        raise UserError(f"can't read it: {error.strerror or error}") from error
    except Exception as error:  # a damaged file can make a decoder raise anything
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"the picture is damaged ({reason or type(error).__name__})") from error
    if min(image.size) < MIN_SIZE:
        raise UserError(f"the picture is too small or too narrow to read: {image.width} x {image.height} pixels")
    return image


def turn_upright(image: Image.Image) -> Image.Image:
    """Turn a picture upright by its EXIF orientation, if it has one."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # odd metadata can raise anything
        return image
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture of any mode in RGB. Where it is transparent, it becomes white if its ink is dark, else black."""
    if image.mode.startswith("I") or image.mode == "F":  # 16 or 32 bits: scale the largest value to 255
        pixels = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
        pixels = pixels - min(0, pixels.min())
        image = Image.fromarray((pixels * (255 / max(pixels.max(), 1e-9))).clip(0, 255).astype(np.uint8))
    has_alpha = image.has_transparency_data
    image = image.convert("RGBA" if has_alpha else "RGB")
    if has_alpha and not image.getchannel("A").getextrema()[1]:
        has_alpha, image = False, image.convert("RGB")  # such as BMPs of programs that leave the alpha channel empty
    image.thumbnail((MAX_SIZE, MAX_SIZE), Image.Resampling.BOX)
    if has_alpha:
        *colours, alpha = np.moveaxis(np.asarray(image, np.float32), 2, 0)
        is_dark = np.average(np.mean(colours, axis=0), weights=alpha + 1e-9) < 128
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white" if is_dark else "black"), image)
    return image.convert("RGB")
