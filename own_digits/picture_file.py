"""Any file of a picture, read: PNG, JPEG, GIF, BMP, TIFF or WebP, of any colours, upright, never too large."""

import threading
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from common.command_line import UserError

FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]
MAX_SIZE = 1600  # pixels on the longer side; of larger pictures a smaller copy is read
ONE_AT_A_TIME = threading.Lock()  # since warnings are of the whole process


def read_picture(file: Path | BinaryIO) -> Image.Image:
    """Read a picture, upright, in RGB, of at most 1600 x 1600 pixels.

    Raises UserError when it can't be read, is none, damaged, too large or too narrow.
    """
    try:
        with ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                image.draft(None, (MAX_SIZE, MAX_SIZE))  # a large JPEG is decoded at half its size, or less
                image = to_rgb(ImageOps.exif_transpose(image))
    except Image.UnidentifiedImageError as error:
        raise UserError(f"this is no picture ({', '.join(FORMATS)} can be read)") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels are too many: make it smaller") from error
    except OSError as error:
        raise UserError(f"can't read it: {error.strerror or error}") from error
    except Exception as error:  # a damaged file can make a decoder raise anything
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"the picture is damaged ({reason or type(error).__name__})") from error
    if min(image.size) < 8:
        raise UserError(f"the picture is too small: only {image.width} x {image.height} pixels of it can be read")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture of any mode in RGB. Where it is transparent there is paper: white, or black under light ink."""
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more
        pixels = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
        pixels = pixels - min(0, pixels.min())
        image = Image.fromarray((pixels * (255 / max(pixels.max(), 1e-9))).clip(0, 255).astype(np.uint8))
    has_alpha = image.has_transparency_data
    image = image.convert("RGBA" if has_alpha else "RGB")
    image.thumbnail((MAX_SIZE, MAX_SIZE), Image.Resampling.BOX)
    if has_alpha:
        *colours, alpha = np.moveaxis(np.asarray(image, np.float32), 2, 0)
        is_dark = np.average(np.mean(colours, axis=0), weights=alpha + 1e-9) < 128
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white" if is_dark else "black"), image)
    return image.convert("RGB")
