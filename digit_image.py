"""From any picture of a digit to the 28x28 form of MNIST, the only one that the network knows.

MNIST's own procedure (Y. LeCun, C. Cortes, C. J. C. Burges, http://yann.lecun.com/exdb/mnist/): "The original black and
white (bilevel) images from NIST were size normalized to fit in a 20x20 pixel box while preserving their aspect ratio.
The resulting images contain grey levels as a result of the anti-aliasing technique used by the normalization algorithm.
The images were centered in a 28x28 image by computing the center of mass of the pixels, and translating the image so as
to position this point at the center of the 28x28 field."

There the ink was known. Here it must be found first: paper is what is left when everything dark (or light) that is
narrower than a few strokes is filled in, and ink is what differs from it (the top-hat transform, which keeps to uneven
light and the edges of shadows: P. Soille, "Morphological Image Analysis", 2nd edition, section 4.5).
"""

import warnings
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from command_line import UserError

FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]
MAX_SIZE = 1600  # pixels on the longer side; of larger pictures a smaller copy is read
WORKING_SIZE = 400  # in which the digit is looked for
COARSE_SIZE = 100  # in which the pen is looked for
LEAST_SCORE = 0.15  # of a pen, below which only a strong contrast is ink
LEAST_CONTRAST = 0.5  # of ink with paper, for that
LEAST_PART = 0.1  # of all that stands out, else it is noise
BOX, FIELD, CENTRE = 20, 28, 14.5  # pixels; MNIST's centres of mass are in the middle of pixel 14, counted from 0
FINE = 8  # the digit is drawn so many times larger, for grey levels at its edges
WIDTHS = 2.0, 4.0  # of strokes, in pixels of MNIST, where most of its digits have theirs
# (part of full ink, thickness in pixels): what has less is not taken for ink, from the first try to the last
TRIES = [(0.4, 1), (0.5, 1), (0.6, 1), (0.4, 3), (0.6, 3), (0.5, 5), (0.8, 1)]
NOTHING = "there is nothing on the picture"
NEIGHBOURS = np.ones((3, 3))  # diagonal ones, too


class Digit(NamedTuple):
    """The ink of a digit, (h, w) in [0, 1], and its box in the picture: top, left, bottom, right, in pixels."""

    ink: np.ndarray
    box: np.ndarray


def read_picture(file: Path | BinaryIO) -> Image.Image:
    """Read a picture, upright, in RGB, of at most 1600 x 1600 pixels. Raises UserError when it is none or too large."""
    try:
        with warnings.catch_warnings():
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
        raise UserError(f"the picture is too small: {image.width} x {image.height} pixels")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture of any mode in RGB, on paper that its ink stands out from where it is transparent."""
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more
        pixels = np.asarray(image, np.float32)
        image = Image.fromarray((pixels * (255 / max(pixels.max(), 1e-9))).clip(0, 255).astype(np.uint8))
    has_alpha = image.has_transparency_data
    image = image.convert("RGBA" if has_alpha else "RGB")
    image.thumbnail((MAX_SIZE, MAX_SIZE), Image.Resampling.BOX)
    if has_alpha:
        *colours, alpha = np.moveaxis(np.asarray(image, np.float32), 2, 0)
        is_dark = np.average(np.mean(colours, axis=0), weights=alpha + 1e-9) < 128
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white" if is_dark else "black"), image)
    return image.convert("RGB")


def digit_image(picture: Image.Image) -> np.ndarray:
    """Return the digit in a picture, of mode RGB, in MNIST's form: (28, 28) uint8, 255 for ink.

    The digit is the heaviest thing, where each edge of the picture that a thing touches makes it count for less.
    Raises UserError when there is nothing.
    """
    if (image := as_mnist(picture)) is not None:
        return image
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
    grey = np.asarray(picture.convert("L"))
    for image in (grey, 255 - grey):
        rows, columns = np.nonzero(image)
        if len(rows) and max(np.ptp(rows), np.ptp(columns)) + 1 in (BOX - 1, BOX):  # 16 lost a row or column
            centre = np.array(ndimage.center_of_mass(image)) + 0.5
            if (np.abs(centre - CENTRE) < 1).all():
                return image
    return None


def find_digit(picture: Image.Image) -> Digit:
    """Return the heaviest thing in a picture, with what is near it. Raises UserError when there is nothing."""
    scale = min(1, WORKING_SIZE / max(picture.size))
    size = [max(1, round(scale * length)) for length in picture.size]
    ink = find_ink(np.asarray(picture.resize(size, Image.Resampling.BOX), np.float32) / 255)
    level = 0.9 * np.percentile(ink[ink > ink.max() / 2], 98)  # of full ink
    things, is_whole = find_things(ink / level)
    labels, weights, boxes, edges = things
    # At the edges there may be a digit that is cut off, but also shadows, thumbs and tables.
    heaviest = (weights * np.array([1, 0.1, 0.03, 0.03, 0.03])[edges]).argmax()
    group, box = np.arange(len(weights)) == heaviest, boxes[heaviest]
    candidates = (weights > (0.03 if is_whole else 0.15) * weights[heaviest]) & (edges <= edges[heaviest])
    while True:  # a digit may be in pieces: add what is near
        reach = 0.25 * (box[2:] - box[:2]).max()
        gaps = np.maximum(boxes[:, :2] - box[2:], box[:2] - boxes[:, 2:]).max(axis=1)
        near = candidates & (gaps < reach) & ~group
        if not near.any():
            break
        group |= near
        box = np.concatenate([boxes[group, :2].min(axis=0), boxes[group, 2:].max(axis=0)])
    if weights[group].sum() < LEAST_PART * weights.sum():
        raise UserError(NOTHING)
    digit = np.append(False, group)[labels]
    soft_edges = ndimage.binary_dilation(digit, NEIGHBOURS, iterations=2) & (labels == 0)
    ink = np.where(digit | soft_edges, ink / level, 0).clip(0, 1)
    margin = 3  # for the soft edges
    top, left, bottom, right = box
    return Digit(np.pad(ink, margin)[top : bottom + 2 * margin, left : right + 2 * margin], box / scale)


class Things(NamedTuple):
    """The connected parts of some ink: labels, (H, W), 1 to N; of each its weight, box, and the edges it touches."""

    labels: np.ndarray
    weights: np.ndarray  # (N,)
    boxes: np.ndarray  # (N, 4): top, left, bottom, right
    edges: np.ndarray  # (N,) 0 to 4


def find_things(ink: np.ndarray) -> tuple[Things, bool]:
    """Return what stands out in ink, (H, W), and whether nothing was taken away from it.

    The lines of ruled paper end at its edges. They are lighter than the pen's, or thinner: as long as they are the
    heaviest thing, take away more.
    """
    first = None
    for threshold, thickness in TRIES:
        labels, count = ndimage.label(ndimage.grey_opening(ink, thickness) > threshold, NEIGHBOURS)
        if not count:
            break
        weights = ndimage.sum_labels(ink, labels, np.arange(1, count + 1))
        boxes = np.array([[y.start, x.start, y.stop, x.stop] for y, x in ndimage.find_objects(labels)])
        things = Things(labels, weights, boxes, (boxes == [0, 0, *ink.shape]).sum(axis=1))
        first = first or things
        heaviest = weights.argmax()
        is_digit = (0.03, 0.5, np.inf, np.inf, np.inf)[things.edges[heaviest]]  # if it is such a part of all
        if weights[heaviest] > is_digit * first.weights.sum():
            return things, things is first
    return first, True


def find_ink(pixels: np.ndarray) -> np.ndarray:
    """Return how far each pixel is from the paper, (H, W) in [0, 1], for pixels, (H, W, 3) in [0, 1].

    Raises UserError when there is nothing but paper.
    """
    channels = np.moveaxis(pixels, 2, 0)
    spans = [np.abs(channel - ndimage.uniform_filter(channel, max(channel.shape) // 2)).max() for channel in channels]
    channel = channels[np.argmax(spans)]  # the colour in which the ink stands out
    noise = 2.22 * np.quantile(np.abs(np.diff(channel)), 0.25)  # standard deviation, from the quarter least differences
    if noise > 0.01:
        channel = ndimage.gaussian_filter(channel, min(noise / 0.07, 3))
    pen = max((find_pen(channel, is_dark) for is_dark in (True, False)), key=lambda pen: pen.score)
    channel = channel if pen.is_dark else 1 - channel
    ink = contrast(channel, fill_in(channel, pen.side), pen.is_dark)
    if pen.score < LEAST_SCORE and ink.max() < LEAST_CONTRAST:
        raise UserError(NOTHING)
    return ink


class Pen(NamedTuple):
    """What ink may be. The score is of how well it fits; side, in pixels, is that of a square larger than a stroke."""

    score: float
    is_dark: bool
    side: int


def find_pen(channel: np.ndarray, is_dark: bool) -> Pen:
    """Return the narrowest pen that explains at least half of the strongest contrasts in a channel, (H, W)."""
    step = max(1, round(max(channel.shape) / COARSE_SIZE))
    edges = np.concatenate([channel[0], channel[-1], channel[:, 0], channel[:, -1]])
    channel = channel if is_dark else 1 - channel
    coarse = ndimage.minimum_filter(channel, step, mode="nearest")[step // 2 :: step, step // 2 :: step]
    sides = [3]
    while sides[-1] < min(coarse.shape) / 2:
        sides.append(2 * sides[-1] + 1)
    papers = [fill_in(coarse, side) for side in sides]
    contrasts = [contrast(coarse, paper, is_dark) for paper in papers]
    peak = contrasts[-1].max()
    strong = [without_edges(values >= 0.7 * peak) for values in contrasts]
    found = next(i for i, mask in enumerate(strong) if mask.sum() >= 0.5 * strong[-1].sum())
    mask = strong[found]
    # Paper is at the picture's edges, too, and ink isn't.
    level = papers[found][mask].mean() if is_dark else 1 - papers[found][mask].mean()
    low, high = np.percentile(edges, [20, 80])
    at_edges = 1 - mask[1:-1, 1:-1].sum() / mask.sum()
    score = contrasts[found][mask].mean() - 2 * max(low - level, level - high, 0) - 3 * at_edges
    return Pen(score, is_dark, step * sides[min(found + 1, len(sides) - 1)])


def fill_in(channel: np.ndarray, side: int) -> np.ndarray:
    """Return a channel without the dark things that are narrower than side."""
    return ndimage.grey_closing(channel, side, mode="nearest")


def contrast(channel: np.ndarray, paper: np.ndarray, is_dark: bool) -> np.ndarray:
    """Return how much darker than paper it is; of dark ink, as a fraction of the light that falls on the paper."""
    return (paper - channel) / (np.maximum(paper, 0.1) if is_dark else 1)


def without_edges(mask: np.ndarray) -> np.ndarray:
    """Return a mask without what touches the edges, if there is anything else."""
    labels, _ = ndimage.label(mask, NEIGHBOURS)
    touching = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    inside = mask & ~np.isin(labels, touching)
    return inside if inside.sum() > max(3, 0.05 * mask.sum()) else mask


def normalize(ink: np.ndarray) -> np.ndarray:
    """Return a digit's ink, (h, w) in [0, 1], as MNIST has it: (28, 28) uint8, with a stroke as wide as a pen's."""
    ink = np.pad(fit(ink), FINE)
    mask = ink > 0.5
    inside = ndimage.distance_transform_edt(mask)
    width = 4 * inside[mask].mean() - 2  # of a long bar, whose pixels are a quarter of it from the edge, on average
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
