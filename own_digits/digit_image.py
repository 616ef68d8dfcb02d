"""From any picture of a digit to the 28x28 form of MNIST, the only one that the network knows.

MNIST's own procedure (Y. LeCun, C. Cortes, C. J. C. Burges, http://yann.lecun.com/exdb/mnist/): "The original black and
white (bilevel) images from NIST were size normalized to fit in a 20x20 pixel box while preserving their aspect ratio.
The resulting images contain grey levels as a result of the anti-aliasing technique used by the normalization algorithm.
The images were centered in a 28x28 image by computing the center of mass of the pixels, and translating the image so as
to position this point at the center of the 28x28 field."

There the ink was known. Here it must be found first, on its sheet (sheet.py) and its paper (ink.py). And there, all
wrote with the same pens; here strokes are brought to their width.
"""

import numpy as np
from PIL import Image
from scipy import ndimage

from common.command_line import UserError
from own_digits.ink import NOTHING, find_digit
from own_digits.sheet import WORKING_SIZE, cut_out_sheet

BOX, FIELD, CENTRE = 20, 28, 14.5  # pixels; MNIST's centres of mass are in the middle of pixel 14, counted from 0
FINE = 8  # the digit is drawn so many times larger, for grey levels at its edges
WIDTHS = 2.5, 3.5  # of strokes, in pixels of MNIST, between which those of its digits are on average
WIDEST = 9  # pixels of MNIST: what is wider is a shadow, or a dot


def digit_image(picture: Image.Image) -> np.ndarray:
    """Return the digit in a picture, of mode RGB, in MNIST's form: (28, 28) uint8, 255 for ink.

    The digit is the heaviest thing, where each edge of the picture that a thing touches makes it count for less.
    Raises UserError when there is none.
    """
    if (image := as_mnist(picture)) is not None:
        return image
    picture = cut_out_sheet(picture)
    digit = find_digit(picture)
    extent = (digit.box[2:] - digit.box[:2]).max()
    if extent < max(picture.size) / 2 and max(picture.size) > WORKING_SIZE:  # look closer
        top, left = np.floor(digit.box[:2] - extent / 2).clip(0).astype(int)
        bottom, right = np.ceil(digit.box[2:] + extent / 2).clip(0, picture.size[::-1]).astype(int)
        digit = find_digit(picture.crop((left, top, right, bottom)))
    return normalize(digit.ink)


def as_mnist(picture: Image.Image) -> np.ndarray | None:
    """Return a picture that has MNIST's form already, light on dark or dark on light; else None."""
    if picture.size != (FIELD, FIELD):
        return None
    grey = np.array(picture.convert("L"))
    for image in (grey, 255 - grey):
        rows, columns = np.nonzero(image)
        if len(rows) and max(np.ptp(rows), np.ptp(columns)) + 1 in (BOX - 1, BOX):  # 16 of the 70,000 are a pixel short
            centre = np.array(ndimage.center_of_mass(image)) + 0.5
            if (np.abs(centre - CENTRE) < 1).all():
                return image
    return None


def normalize(ink: np.ndarray) -> np.ndarray:
    """Return a digit's ink, (h, w) in [0, 1], as MNIST has it: (28, 28) uint8, with strokes as wide as there.

    Raises UserError when its strokes are too wide for one.
    """
    ink = np.pad(fit(ink), FINE)
    mask = ink > 0.5
    if not mask.any():
        raise UserError(NOTHING)
    inside = ndimage.distance_transform_edt(mask)
    width = 4 * inside[mask].mean() - 2  # of a long bar, whose pixels are a quarter of it from the edge, on average
    if width > FINE * WIDEST:
        raise UserError(NOTHING)
    grow = (np.clip(width, *(FINE * limit for limit in WIDTHS)) - width) / 2
    if grow:
        distance = np.where(mask, inside - 0.5, 0.5 - ndimage.distance_transform_edt(~mask))
        ink = (distance + grow + 0.5).clip(0, 1)
    ink = fit(ink)
    # MNIST's boxes were moved by whole pixels.
    top, left = np.round(CENTRE - (np.array(ndimage.center_of_mass(ink)) + 0.5) / FINE).astype(int)
    field = np.pad(ink, FINE * FIELD)[FINE * (FIELD - top) :, FINE * (FIELD - left) :][: FINE * FIELD, : FINE * FIELD]
    image = field.reshape(FIELD, FINE, FIELD, FINE).mean(axis=(1, 3))
    return np.round(255 * image).astype(np.uint8)


def fit(ink: np.ndarray) -> np.ndarray:
    """Return ink, (h, w) in [0, 1], cut to its box and so large that the longer side is 20 pixels of MNIST.

    Raises UserError when there is none.
    """
    rows, columns = np.nonzero(ink > 0.5)
    if not len(rows):
        raise UserError(NOTHING)
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    zoom = FINE * BOX / max(right - left, bottom - top)
    size = [max(1, round(zoom * length)) for length in (right - left, bottom - top)]
    image = Image.fromarray(ink.astype(np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC, (left, top, right, bottom))).clip(0, 1)
