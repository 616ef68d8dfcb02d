"""Turn any picture of a digit into an image like MNIST's, 28x28 pixels: the only kind of image that the network knows.

MNIST's own procedure (Y. LeCun, C. Cortes, C. J. C. Burges, http://yann.lecun.com/exdb/mnist/): "The original black and
white (bilevel) images from NIST were size normalized to fit in a 20x20 pixel box while preserving their aspect ratio.
The resulting images contain grey levels as a result of the anti-aliasing technique used by the normalization algorithm.
The images were centered in a 28x28 image by computing the center of mass of the pixels, and translating the image so as
to position this point at the center of the 28x28 field."

Here the ink must first be found (ink.py), and strokes are made as wide as in MNIST.
"""

import math
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

from common.command_line import UserError
from own_digits.ink import find_candidates

BOX, FIELD, CENTRE = 20, 28, 14.5  # pixels; MNIST's centres of mass are in the middle of pixel 14, counted from 0
OVERSAMPLING = 4  # digits are drawn that many times larger and then averaged, for grey levels at their edges
MIN_STROKE_WIDTH, MAX_STROKE_WIDTH = 2.5, 3.5  # MNIST pixels: the range into which stroke widths are brought
MAX_DIGIT_STROKE_WIDTH = 9  # MNIST pixels; what is wider is a shadow or a dot


def character_image(picture: Image.Image) -> np.ndarray:
    """Return the character in a picture, of mode RGB, as MNIST would show it: (28, 28) uint8, 255 for ink.

    No network is needed: size and surroundings decide which part is taken. Raises UserError when there is no ink.
    """
    image = as_mnist(picture)
    for part in find_candidates(picture) if image is None else []:
        image = normalize(part.ink) if image is None else image
    if image is None:
        raise UserError("there is no ink in the picture, or its strokes are too wide")
    return image


def as_mnist(picture: Image.Image) -> np.ndarray | None:
    """Return a picture that already is like MNIST's, light on dark or dark on light, as (28, 28) uint8; else None."""
    if picture.size != (FIELD, FIELD):
        return None
    grey = np.array(picture.convert("L"))
    for image in (grey, 255 - grey):
        if image.max() < 200:  # too faint
            continue
        left, top, right, bottom = Image.fromarray(image).getbbox() or (0, 0, 0, 0)
        if max(right - left, bottom - top) in (BOX - 1, BOX):  # 16 of MNIST's 70,000 digits have 19 pixels
            offset = np.array(ndimage.center_of_mass(image)) + 0.5 - CENTRE
            if (np.abs(offset) < 1).all():
                return image
    return None


def normalize(ink: np.ndarray) -> np.ndarray | None:
    """Return a digit's ink, (h, w) in [0, 1], with MNIST's size, position and stroke width: (28, 28) uint8.

    Returns None when there is no ink, or the strokes are too wide for a digit.
    """
    if not (ink > 0.5).any():
        return None
    ink = np.pad(scale_to_box(ink), OVERSAMPLING)
    mask = ink > 0.5
    if not mask.any():
        return None
    depth = np.asarray(ndimage.distance_transform_edt(mask))  # to the nearest background pixel
    width = 4 * depth[mask].mean() - 2  # exact for a long bar, whose pixels lie a quarter of its width deep on average
    if width > OVERSAMPLING * MAX_DIGIT_STROKE_WIDTH:
        return None
    target_width = np.clip(width, OVERSAMPLING * MIN_STROKE_WIDTH, OVERSAMPLING * MAX_STROKE_WIDTH)
    if width != target_width:  # move the edges, where the signed distance is 0
        distance = np.where(mask, depth - 0.5, 0.5 - np.asarray(ndimage.distance_transform_edt(~mask)))
        ink = (distance + (target_width - width) / 2 + 0.5).clip(0, 1)
    ink = scale_to_box(ink)
    # MNIST's boxes were moved by whole pixels.
    top, left = np.round(CENTRE - (np.array(ndimage.center_of_mass(ink)) + 0.5) / OVERSAMPLING).astype(int)
    size = OVERSAMPLING * FIELD
    field = np.pad(ink, size)[size - OVERSAMPLING * top :, size - OVERSAMPLING * left :][:size, :size]
    image = field.reshape(FIELD, OVERSAMPLING, FIELD, OVERSAMPLING).mean(axis=(1, 3))
    return np.round(255 * image).astype(np.uint8)


def scale_to_box(ink: np.ndarray) -> np.ndarray:
    """Return ink, (h, w) in [0, 1], cropped to the digit, with 20 * OVERSAMPLING pixels on the longer side."""
    box = Image.fromarray(ink > 0.5).getbbox() or (0, 0, 1, 1)  # left, top, right, bottom
    lengths = box[2] - box[0], box[3] - box[1]
    size = [max(1, round(OVERSAMPLING * BOX / max(lengths) * length)) for length in lengths]
    image = Image.fromarray(ink.astype(np.float32)).resize(size, Image.Resampling.BICUBIC, box)
    return np.asarray(image).clip(0, 1)


def views(image: torch.Tensor) -> torch.Tensor:
    """Return an image, (28, 28), as it is, and a little rotated, smaller and larger: (9, 1, 28, 28)."""
    maps = []
    for degrees, scale in product((0, -10, 10), (1, 0.85, 1.15)):
        cos, sin = math.cos(math.radians(degrees)) / scale, math.sin(math.radians(degrees)) / scale
        maps.append([[cos, -sin, 0], [sin, cos, 0]])
    grid = F.affine_grid(torch.tensor(maps), [len(maps), 1, *image.shape], align_corners=False)
    return F.grid_sample(image.expand(len(maps), 1, -1, -1), grid, align_corners=False)
