"""Finding a digit's ink on its paper, whichever of them is dark.

Paper is what is left when everything dark (or light) that is narrower than a few strokes is filled in, and ink is what
differs from it (the top-hat transform, which keeps to uneven light and the edges of shadows: P. Soille, "Morphological
Image Analysis", 2nd edition, section 4.5).
"""

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from common.command_line import UserError
from own_digits.sheet import shrink

NOTHING = "there is no digit on the picture"
COARSE_SIZE = 100  # pixels on the longer side, in which the pen is looked for
LEAST_SCORE = 0.15  # of a pen, below which only a strong contrast is ink
LEAST_CONTRAST = 0.5  # of ink with paper, for that
LEAST_PART = 0.1  # of all that stands out, else it is noise
MARGIN = 3  # pixels around a digit, for its soft edges
# (part of full ink, thickness in pixels): what has less is not taken for ink, from the first try to the last
TRIES = [(0.4, 1), (0.7, 1), (0.5, 3), (0.7, 3), (0.5, 5), (0.85, 1)]
NEIGHBOURS = np.ones((3, 3))  # diagonal ones, too


class Digit(NamedTuple):
    """The ink of a digit, (h, w) in [0, 1], in the working size, and its box in the picture as it came.

    The box is top, left, bottom, right, in pixels.
    """

    ink: np.ndarray
    box: np.ndarray


class Things(NamedTuple):
    """The N connected parts of some ink: labels, (H, W), 1 to N; of each its weight, box, and the edges it touches."""

    labels: np.ndarray
    weights: np.ndarray  # (N,)
    boxes: np.ndarray  # (N, 4): top, left, bottom, right
    edges: np.ndarray  # (N,) 0 to 4


def find_digit(picture: Image.Image) -> Digit:
    """Return the heaviest thing in a picture, of mode RGB, with its pieces. Raises UserError when that is no digit."""
    small, scale = shrink(picture)
    ink = find_ink(np.asarray(small, np.float32) / 255)
    ink /= 0.9 * np.percentile(ink[ink > ink.max() / 2], 98)  # full ink is 1
    things = find_things(ink)
    # At the edges there may be a digit that is cut off, but also shadows and thumbs.
    heaviest = (things.weights * np.array([1, 0.1, 0.03, 0.03, 0.03])[things.edges]).argmax()
    if is_ruling(things, heaviest):
        raise UserError(NOTHING)
    group, box = add_pieces(things, heaviest)
    if things.weights[group].sum() < LEAST_PART * things.weights[things.edges <= things.edges[heaviest]].sum():
        raise UserError(NOTHING)
    digit = np.append(False, group)[things.labels]
    soft_edges = ndimage.binary_dilation(digit, NEIGHBOURS, iterations=MARGIN - 1) & (things.labels == 0)
    ink = np.pad(np.where(digit | soft_edges, ink, 0).clip(0, 1), MARGIN)
    top, left, bottom, right = box
    return Digit(ink[top : bottom + 2 * MARGIN, left : right + 2 * MARGIN], box / scale)


def find_things(ink: np.ndarray) -> Things:
    """Return what stands out in ink, (H, W).

    A digit that touches no edge of the picture is looked for. The lines of ruled paper end there; they are lighter than
    the pen's, or thinner: as long as they are the heaviest thing, take away more. If that leaves no digit, it is itself
    cut off by an edge, or there are lines alone.
    """
    first = cut_off = None
    for threshold, thickness in TRIES:
        labels, count = ndimage.label(ndimage.grey_opening(ink, thickness) > threshold, NEIGHBOURS)
        if not count:
            break
        weights = ndimage.sum_labels(ink, labels, np.arange(1, count + 1))
        boxes = np.array([[y.start, x.start, y.stop, x.stop] for y, x in ndimage.find_objects(labels)])
        things = Things(labels, weights, boxes, (boxes == [0, 0, *ink.shape]).sum(axis=1))
        first = first or things
        part, edges = weights.max() / first.weights.sum(), things.edges[weights.argmax()]
        if edges == 0 and part > 0.03:
            return things
        if edges == 1 and part > 0.5:
            cut_off = cut_off or things
    return cut_off or first


def is_ruling(things: Things, heaviest: int) -> bool:
    """Return whether the heaviest thing is of the lines on ruled paper (one of many) or on squared paper (a net)."""
    if things.edges[heaviest] < 2:
        return False
    _, meshes = ndimage.label(things.labels != heaviest + 1)
    return things.weights[heaviest] < 0.5 * things.weights.sum() or meshes > 12


def add_pieces(things: Things, heaviest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which things, (N,), are the heaviest one and pieces of the same digit near it, and the box of them all."""
    weights, boxes, edges = things.weights, things.boxes, things.edges
    group, box = np.arange(len(weights)) == heaviest, boxes[heaviest]
    candidates = (weights > 0.03 * weights[heaviest]) & (edges <= edges[heaviest])
    while True:
        reach = 0.25 * (box[2:] - box[:2]).max()
        gaps = np.maximum(boxes[:, :2] - box[2:], box[:2] - boxes[:, 2:]).max(axis=1)
        near = candidates & (gaps < reach) & ~group
        if not near.any():
            return group, box
        group |= near
        box = np.concatenate([boxes[group, :2].min(axis=0), boxes[group, 2:].max(axis=0)])


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
    if not ink.any() or (pen.score < LEAST_SCORE and ink.max() < LEAST_CONTRAST):
        raise UserError(NOTHING)
    return ink


class Pen(NamedTuple):
    """What ink may be. The score is of how well it fits; side, in pixels, is that of a square larger than a stroke."""

    score: float
    is_dark: bool
    side: int


def find_pen(channel: np.ndarray, is_dark: bool) -> Pen:
    """Return the narrowest pen that explains at least half of the strongest contrasts in a channel, (H, W)."""
    step = min(max(1, round(max(channel.shape) / COARSE_SIZE)), min(channel.shape))
    edges = np.concatenate([channel[0], channel[-1], channel[:, 0], channel[:, -1]])
    channel = channel if is_dark else 1 - channel
    coarse = ndimage.minimum_filter(channel, step, mode="nearest")[step // 2 :: step, step // 2 :: step]
    sides = [3]
    while sides[-1] < min(coarse.shape) / 2:
        sides.append(2 * sides[-1] + 1)
    brightest = fill_in(coarse, sides[-1])
    widest = contrast(coarse, brightest, is_dark)
    strong = 0.7 * widest.max()
    enough = 0.5 * without_edges(widest >= strong).sum()
    for side in sides:
        paper = fill_in(coarse, side)
        ink = contrast(coarse, paper, is_dark)
        mask = without_edges((ink >= strong) & (paper >= 0.4 * brightest))  # else it is ink itself
        if mask.sum() >= enough:
            break
    # Paper is at the picture's edges, too, and ink isn't.
    level = paper[mask].mean() if is_dark else 1 - paper[mask].mean()
    low, high = np.percentile(edges, [20, 80])
    at_edges = 1 - mask[1:-1, 1:-1].sum() / mask.sum()
    score = ink[mask].mean() - 2 * max(low - level, level - high, 0) - 3 * at_edges
    return Pen(score, is_dark, step * min(2 * side + 1, sides[-1]))


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
