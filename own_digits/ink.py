"""Find what may be a digit in a picture: strokes that are darker, or lighter, than the paper around them.

The paper is the picture after a grey closing, which removes dark strokes (or light ones, if the picture is inverted
first). The ink is the difference. This top-hat transform copes with uneven light and shadows (P. Soille,
"Morphological Image Analysis", 2nd edition, section 4.5). As it isn't known how dark the strokes are, or whether the
paper is ruled, two thresholds are tried, and an opening that removes lines. Each way gives a candidate or two, and the
network chooses between them (number.py).
"""

import math
from typing import NamedTuple, cast

import numpy as np
from PIL import Image
from scipy import ndimage

WORKING_SIZE = 128  # pixels on the longer side of the copy in which digits are looked for
CLOSING_SIZE = 1 / 3  # fraction of the longer side, or of twice the digits' height; strokes must be narrower
LONGEST = 1200  # pixels on the longer side of a closer search, in which digits are WORKING_SIZE / 2 high
SEGMENTATIONS = [(1, 0.2), (1, 0.5), (3, 0.5)]  # (opening in pixels, for ruled lines; threshold)
LOWEST_THRESHOLD = min(threshold for _, threshold in SEGMENTATIONS)
EIGHT_CONNECTED = np.ones((3, 3))  # pixels that touch at a corner are connected, too
MARGIN = 3  # pixels around a digit, for its soft edges
COUNT = 6  # candidates of a picture, at most
MAX_GAP = 4  # from the best score; the network hardly ever prefers a candidate that is further behind


class Candidate(NamedTuple):
    """A part of a picture that may be a digit, or several."""

    ink: np.ndarray  # (h, w) in [0, 1], in the working size
    box: np.ndarray  # (4,): top, left, bottom, right, in pixels of the picture
    score: float  # how well its size and surroundings suit a digit, as a logarithm
    region: np.ndarray  # (4,): the box around it and all components of similar height


def find_candidates(picture: Image.Image, height: float = 0, count: int = COUNT) -> list[Candidate]:
    """Return the parts of a picture, of mode RGB, that are likeliest to be digits, at most count, the best first.

    Without a height, the picture is searched at WORKING_SIZE, and each candidate is one digit if no others touch it.
    With the height of the digits, in pixels, it is searched in more detail, and all components of similar height
    together form another candidate. No candidate's score is MAX_GAP or more below the best one's.
    """
    longest = min(LONGEST, max(picture.size) / height * WORKING_SIZE / 2) if height else WORKING_SIZE
    scale = min(1, longest / max(picture.size))  # small pictures keep their size
    small = picture.resize([max(1, round(scale * length)) for length in picture.size], Image.Resampling.BOX)
    channel, noise = clearest_channel(np.asarray(small, np.float32) / 255)
    spread = np.abs(channel - np.median(channel)).mean()  # mean distance of the pixels from their median
    closing_size = max(3, round(CLOSING_SIZE * min(2 * scale * height or math.inf, max(channel.shape))))
    is_border = np.ones(channel.shape, bool)
    is_border[1:-1, 1:-1] = False
    candidates = {}
    for is_dark in (True, False):
        ink, paper = top_hat(channel, closing_size, is_dark)
        if ink.max() < max(0.05, 8 * noise):
            continue  # no ink
        ink = ink / (0.9 * np.percentile(ink[ink > ink.max() / 2], 98))  # 1 is now the darkness of a solid stroke
        # Only the part with ink is searched: the result is the same, and a clean drawing takes less time.
        x0, y0, x1, y1 = Image.fromarray(ink > LOWEST_THRESHOLD).getbbox() or (0, 0, 0, 0)
        x0, y0 = max(0, x0 - MARGIN), max(0, y0 - MARGIN)
        window = np.s_[y0 : y1 + MARGIN, x0 : x1 + MARGIN]
        ink, paper, border = ink[window], paper[window], is_border[window]
        opened = {1: ink, 3: ndimage.grey_opening(ink, 3)}
        for opening_size, threshold in SEGMENTATIONS:
            labels, number = cast(tuple, ndimage.label(opened[opening_size] > threshold, EIGHT_CONNECTED))
            for selected, box, region in find_groups(ink, labels, height > 0) if number else []:
                top, left, bottom, right = box
                mask = selected[labels[top:bottom, left:right]]
                share = min(0.3, mask.size / channel.size)  # share of the picture
                contact = border[top:bottom, left:right][mask].sum() / max(mask.shape)  # with the border
                brightness = paper[top:bottom, left:right][mask].mean()
                difference = np.abs(channel - brightness).mean() - spread  # small if most of the picture is as bright
                # The weights were chosen on pictures made of validation images.
                score = np.log(share / number) - 3 * contact - 8 * difference
                place = box + [y0, x0, y0, x0]  # in the whole picture
                key = (is_dark, *(place // 5), round(2 * np.log(mask.sum())))  # near-duplicates share it
                if key not in candidates or candidates[key][0] < score:
                    parts = box, ink / (2 * threshold), labels, selected
                    candidates[key] = score, place, region + [y0, x0, y0, x0], parts
    best = sorted(candidates.values(), key=lambda candidate: -candidate[0])[:count]
    best = [candidate for candidate in best if candidate[0] > best[0][0] - MAX_GAP]
    return [Candidate(cut_out(*parts), place / scale, score, region / scale) for score, place, region, parts in best]


def clearest_channel(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the colour channel in which ink stands out most, (H, W), smoothed, and the noise that it had.

    pixels are (H, W, 3) in [0, 1]; the noise is a standard deviation.
    """
    channels = np.moveaxis(pixels, 2, 0)
    ranges = [np.abs(channel - ndimage.uniform_filter(channel, max(channel.shape) // 2)).max() for channel in channels]
    channel = channels[np.argmax(ranges)]
    noise = 2.22 * np.quantile(np.abs(np.diff(channel)), 0.25)  # if the differences are Gaussian
    return (ndimage.gaussian_filter(channel, min(noise / 0.07, 3)) if noise > 0.01 else channel), noise


def top_hat(channel: np.ndarray, closing_size: int, is_dark: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return how much darker (or lighter) than the paper a channel, (H, W), is, and the paper itself.

    For dark ink the difference is a fraction of the paper's brightness, as a shadow darkens both.
    """
    channel = channel if is_dark else 1 - channel
    paper = ndimage.grey_closing(channel, closing_size, mode="nearest")
    if is_dark:
        return (paper - channel) / np.maximum(paper, 0.1), paper
    return paper - channel, 1 - paper


def find_groups(ink: np.ndarray, labels: np.ndarray, rows: bool) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return groups of components of ink, (H, W), each of which may be a digit; with rows, also whole rows of digits.

    labels, (H, W), are 1 to N for the components, 0 for the background. A group starts from the heaviest component of
    all, of those that don't surround others, or of those that touch the fewest borders. It includes all others close to
    it, as a digit may be in pieces. It has three parts: a mask over labels, (N + 1,) bool, its box, and its region,
    the box around it and all components of similar height.
    """
    weights, boxes = np.bincount(labels.ravel(), ink.ravel())[1:], boxes_of(labels)  # (N,), (N, 4)
    borders, heights = (boxes == [0, 0, *ink.shape]).sum(axis=1), boxes[:, 2] - boxes[:, 0]
    is_frame = np.zeros(len(weights), bool)
    heavy = np.flatnonzero(weights > 0.01 * weights.max())
    for index in heavy:
        others = boxes[heavy[weights[heavy] > 0.1 * weights[index]]]
        inner = others[((others - boxes[index]) * [1, 1, -1, -1] > 0).all(axis=1)]
        if len(inner):
            top, left, bottom, right = boxes[index]
            is_ink, middles = labels[top:bottom, left:right] == index + 1, (inner[:, :2] + inner[:, 2:]) // 2
            is_inside = np.asarray(ndimage.binary_fill_holes(is_ink))[tuple((middles - [top, left]).T)]
            is_frame[index] = borders[index] > 0 or is_inside.any()
            height, width = np.array(is_ink.shape) // 8 + 1
            corners = [is_ink[y, x].any() for y in np.s_[:height, -height:] for x in np.s_[:width, -width:]]
            if is_frame[index] and (borders[index] > 2 or all(corners)):
                weights[index] = 0  # a printed frame, or the table around a sheet, but not a 0 with a stroke in it
    plain = weights * ~is_frame
    groups = []
    for index in {weights.argmax(), plain.argmax(), (plain * (borders == borders[plain > 0].min())).argmax()}:
        others = (weights > 0.03 * weights[index]) & (borders <= borders[index]) & (is_frame <= is_frame[index])
        selected, box = np.arange(len(weights)) == index, boxes[index]
        while True:
            close = others & ~selected & (gaps(boxes, box) < 0.25 * (box[2:] - box[:2]).max())
            if not close.any():
                break
            selected |= close
            box = around(boxes[selected])
        height = box[2] - box[0]
        is_similar = (weights > 0.1 * weights[index]) & (heights > 0.4 * height) & (heights < 2.5 * height)
        row = selected | others & ~is_frame & is_similar
        groups.append((np.append(False, selected), box, region := around(boxes[row])))
        if rows and (row != selected).any():
            nearest = np.min([gaps(boxes, other) for other in boxes[row]], axis=0)
            row |= others & ~is_frame & (nearest < 0.25 * height)
            groups.append((np.append(False, row), around(boxes[row]), region))
    return groups


def gaps(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the larger of the horizontal and the vertical gap between boxes, (N, 4), and a box; below 0: overlap."""
    return np.maximum(boxes[:, :2] - box[2:], box[:2] - boxes[:, 2:]).max(axis=1)


def boxes_of(labels: np.ndarray) -> np.ndarray:
    """Return the box of each label from 1 to the highest one, (N, 4): zeros where there is none."""
    slices = [found or (slice(0, 0), slice(0, 0)) for found in ndimage.find_objects(labels)]
    return np.array([[y.start, x.start, y.stop, x.stop] for y, x in slices])


def around(boxes: np.ndarray) -> np.ndarray:
    """Return the box, (4,), around boxes, (N, 4)."""
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def cut_out(box: np.ndarray, ink: np.ndarray, labels: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """Return the ink, (H, W), of the selected components, (N + 1,) bool, in a box and a margin around it."""
    top, left, bottom, right = box
    window = np.s_[top : bottom + 2 * MARGIN, left : right + 2 * MARGIN]
    ink, labels = np.pad(ink, MARGIN)[window], np.pad(labels, MARGIN)[window]
    mask = selected[labels]
    mask |= ndimage.binary_dilation(mask, EIGHT_CONNECTED, MARGIN - 1) & (labels == 0)  # soft edges
    return np.where(mask, ink, 0).clip(0, 1)
