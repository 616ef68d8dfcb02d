"""Read picture files: PNG, JPEG, GIF, BMP, TIFF and WebP, in any colour mode."""

import threading
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from common.command_line import UserError

FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]
MIN_SIZE = 8  # pixels on the shorter side
MAX_SIZE = 1600  # pixels on the longer side; larger pictures are shrunk
WARNINGS_LOCK = threading.Lock()  # the demo's threads share one list of warning filters


def read_picture(file: Path | BinaryIO) -> Image.Image:
    """Return a picture file's content, upright, in mode RGB, shrunk to at most 1600x1600 pixels.

    Raises UserError when the file can't be read, is damaged or not a picture, or the picture is too large or too small.
    """
    try:
        with WARNINGS_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                image.draft(None, (MAX_SIZE, MAX_SIZE))  # decodes a large JPEG at half its size or less
                image = to_rgb(ImageOps.exif_transpose(image))
    except Image.UnidentifiedImageError as error:
        raise UserError(f"this is not a picture in one of the formats {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"the picture has more than {Image.MAX_IMAGE_PIXELS:,} pixels: make it smaller") from error
    except OSError as error:
        raise UserError(f"can't read it: {error.strerror or error}") from error
    except Exception as error:  # a damaged file can make a decoder raise anything
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"the picture is damaged ({reason or type(error).__name__})") from error
    if min(image.size) < MIN_SIZE:
        raise UserError(f"the picture is too small or too narrow: {image.width} x {image.height} pixels to read")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture of any mode in RGB. Where it is transparent, it becomes white if its ink is dark, else black."""
    if image.mode.startswith("I") or image.mode == "F":  # 16 or 32 bits: scale the largest value to 255
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
