"""Find the ink of a digit on its paper, whichever of the two is darker.

The paper is the picture after a grey closing, which removes dark strokes (or light ones, of the inverted picture). The
ink is the difference. This top-hat transform copes with uneven light and shadows (P. Soille, "Morphological Image
Analysis", 2nd edition, section 4.5).
"""

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from common.command_line import UserError
from own_digits.sheet import borders_of, shrink

NO_DIGIT = "there is no digit in the picture"
COARSE_SIZE = 100  # pixels on the longer side of the copy in which the strokes' polarity and width are estimated
MIN_SCORE, MIN_CONTRAST = 0.15, 0.5  # if the score of the polarity and the contrast are both lower, there is no ink
BORDER_WEIGHTS = np.array([1, 0.1, 0.03, 0.03, 0.03])  # of components that touch 0, 1, ... 4 borders of the picture
MIN_SHARE = 0.1  # of the ink in the picture; a digit with less is noise
SEGMENTATIONS = [(0.4, 1), (0.7, 1), (0.5, 3), (0.7, 3), (0.5, 5), (0.85, 1)]  # (threshold, opening in pixels)
EIGHT_CONNECTED = np.ones((3, 3))  # pixels that touch at a corner are connected, too
MARGIN = 3  # pixels around a digit, for its soft edges


class Components(NamedTuple):
    """The N connected components of the ink."""

    labels: np.ndarray  # (H, W): 1 to N, 0 for the background
    weights: np.ndarray  # (N,): the sum of a component's ink
    boxes: np.ndarray  # (N, 4): the bounding boxes: top, left, bottom, right
    borders: np.ndarray  # (N,): how many borders of the picture a component touches, 0 to 4


def find_digit(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Return the ink of the digit in a picture, and its bounding box there.

    The picture's mode is RGB. The ink is (h, w) in [0, 1], in the working size; the box is top, left, bottom, right, in
    pixels. The digit is the component with the most ink, and those close to it. Components at the picture's borders
    count for less, because they may be shadows or thumbs. Raises UserError when there is no digit.
    """
    small, scale = shrink(picture)
    ink = find_ink(np.asarray(small, np.float32) / 255)
    ink /= 0.9 * np.percentile(ink[ink > ink.max() / 2], 98)  # 1 is now the darkness of a solid stroke
    components = find_components(ink)
    weights, borders = components.weights, components.borders
    heaviest = (weights * BORDER_WEIGHTS[borders]).argmax()
    selected, box = add_neighbours(components, heaviest)
    is_noise = weights[selected].sum() < MIN_SHARE * weights[borders <= borders[heaviest]].sum()
    if is_noise or is_ruling(components, heaviest):
        raise UserError(NO_DIGIT)
    digit = np.append(False, selected)[components.labels]  # (H, W)
    digit |= ndimage.binary_dilation(digit, EIGHT_CONNECTED, MARGIN - 1) & (components.labels == 0)  # soft edges
    ink = np.pad(np.where(digit, ink, 0).clip(0, 1), MARGIN)
    top, left, bottom, right = box
    return ink[top : bottom + 2 * MARGIN, left : right + 2 * MARGIN], box / scale


def find_components(ink: np.ndarray) -> Components:
    """Return the connected components of ink, (H, W), if possible without the lines of ruled paper.

    Ruled lines reach the borders and are paler or thinner than strokes. Thresholds and openings are tried until the
    heaviest component touches no border. If it always does, the digit is cut off by one, or there are only lines.
    """
    first = cut_off = None
    for threshold, opening_size in SEGMENTATIONS:
        labels, count = ndimage.label(ndimage.grey_opening(ink, opening_size) > threshold, EIGHT_CONNECTED)
        if not count:
            break
        weights = ndimage.sum_labels(ink, labels, np.arange(1, count + 1))
        boxes = np.array([[y.start, x.start, y.stop, x.stop] for y, x in ndimage.find_objects(labels)])
        components = Components(labels, weights, boxes, (boxes == [0, 0, *ink.shape]).sum(axis=1))
        first = first or components
        share, borders = weights.max() / first.weights.sum(), components.borders[weights.argmax()]
        if borders == 0 and share > 0.03:
            return components
        if borders == 1 and share > 0.5:
            cut_off = cut_off or components
    return cut_off or first


def is_ruling(components: Components, index: int) -> bool:
    """Return whether a component is one of the lines of ruled paper, or the grid of squared paper."""
    _, cells = ndimage.label(components.labels != index + 1)
    is_one_of_many = components.weights[index] < 0.5 * components.weights.sum()
    return components.borders[index] >= 2 and (is_one_of_many or cells > 12)


def add_neighbours(components: Components, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which components, (N,) bool, form a digit with the one of this index, and their bounding box, (4,)."""
    weights, boxes, borders = components.weights, components.boxes, components.borders
    selected, box = np.arange(len(weights)) == index, boxes[index]
    candidates = (weights > 0.03 * weights[index]) & (borders <= borders[index])
    while True:
        max_gap = 0.25 * (box[2:] - box[:2]).max()
        gaps = np.maximum(boxes[:, :2] - box[2:], box[:2] - boxes[:, 2:]).max(axis=1)
        close = candidates & (gaps < max_gap) & ~selected
        if not close.any():
            return selected, box
        selected |= close
        box = np.concatenate([boxes[selected, :2].min(axis=0), boxes[selected, 2:].max(axis=0)])


def find_ink(pixels: np.ndarray) -> np.ndarray:
    """Return how much each pixel differs from the paper, (H, W) in [0, 1], given pixels, (H, W, 3) in [0, 1].

    Raises UserError when there is nothing but paper.
    """
    channels = np.moveaxis(pixels, 2, 0)
    ranges = [np.abs(channel - ndimage.uniform_filter(channel, max(channel.shape) // 2)).max() for channel in channels]
    channel = channels[np.argmax(ranges)]  # the colour channel in which the ink stands out most
    noise = 2.22 * np.quantile(np.abs(np.diff(channel)), 0.25)  # standard deviation, if the differences are Gaussian
    if noise > 0.01:
        channel = ndimage.gaussian_filter(channel, min(noise / 0.07, 3))
    score, is_dark, closing_size = max(score_polarity(channel, is_dark) for is_dark in (True, False))
    channel = channel if is_dark else 1 - channel
    ink, _ = top_hat(channel, closing_size, is_dark)
    if not ink.any() or (score < MIN_SCORE and ink.max() < MIN_CONTRAST):
        raise UserError(NO_DIGIT)
    return ink


def score_polarity(channel: np.ndarray, is_dark: bool) -> tuple[float, bool, int]:
    """Return how well dark strokes, or light ones, explain a channel, (H, W); is_dark; and the size of a closing.

    The closing, in pixels, is wider than the strokes. Their width is estimated in a smaller copy, from the smallest
    closing that brings out half of the pixels with a strong contrast.
    """
    low, high = np.percentile(borders_of(channel), [20, 80])
    channel = channel if is_dark else 1 - channel
    factor = min(max(1, round(max(channel.shape) / COARSE_SIZE)), min(channel.shape))
    coarse = ndimage.minimum_filter(channel, factor, mode="nearest")[factor // 2 :: factor, factor // 2 :: factor]
    sizes = [3]
    while sizes[-1] < min(coarse.shape) / 2:
        sizes.append(2 * sizes[-1] + 1)
    largest_contrast, brightest = top_hat(coarse, sizes[-1], is_dark)
    strong = 0.7 * largest_contrast.max()
    enough = 0.5 * clear_border(largest_contrast >= strong).sum()
    for size in sizes:
        ink, paper = top_hat(coarse, size, is_dark)
        mask = clear_border((ink >= strong) & (paper >= 0.4 * brightest))  # darker "paper" is ink that was not closed
        if mask.sum() >= enough:
            break
    # The paper around the strokes should be as bright as the borders, and the strokes should stay clear of them.
    paper_level = paper[mask].mean() if is_dark else 1 - paper[mask].mean()
    at_borders = 1 - mask[1:-1, 1:-1].sum() / mask.sum()
    score = ink[mask].mean() - 2 * max(low - paper_level, paper_level - high, 0) - 3 * at_borders
    return score, is_dark, factor * min(2 * size + 1, sizes[-1])


def top_hat(channel: np.ndarray, closing_size: int, is_dark: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return how much darker a channel, (H, W), is than the paper (dark ink: as a fraction of it), and the paper."""
    paper = ndimage.grey_closing(channel, closing_size, mode="nearest")
    return (paper - channel) / (np.maximum(paper, 0.1) if is_dark else 1), paper


def clear_border(mask: np.ndarray) -> np.ndarray:
    """Return a mask without the components at its borders, or the mask itself if hardly anything else is in it."""
    labels, _ = ndimage.label(mask, EIGHT_CONNECTED)
    inside = mask & ~np.isin(labels, borders_of(labels))
    return inside if inside.sum() > max(3, 0.05 * mask.sum()) else mask
