"""Read all digits in a picture, row by row: the network says which pieces of ink belong together.

Ink is cut where digits may touch, into more pieces than there are digits, and any neighbours together may be a digit.
Of all ways to read the pieces of a row from left to right the one that costs least is taken: by dynamic programming
(heuristic over-segmentation: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document
Recognition", Proceedings of the IEEE 86(11), 1998, section IV).
"""

import math
from itertools import combinations, pairwise
from typing import NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import nn

from common.command_line import UserError
from own_digits.digit_image import as_mnist, normalize, views
from own_digits.ink import EIGHT_CONNECTED, MARGIN, Candidate, around, boxes_of, cut_out, find_candidates

NO_DIGIT = "there is no digit in the picture"
COUNT = 6  # parts of a picture that the network is shown, at most
CERTAINTY_WEIGHT = 2  # of the network's opinion in the score of a part
HIGHEST_CERTAINTY = 6.3  # of the digits of MNIST
RICHNESS = 0.5  # of the logarithm of the number of digits in the score
MIN_SCORE = -1.2  # of a part; with the weights in results/reading, nearly all digits have more, blank paper has less
MIN_CERTAINTY = 2.2  # the mean of several digits; blank paper has less
MOST = 100  # pieces of ink as large as digits; where there are more, it is no handwriting

# What speaks against a digit. Lengths are in units of the height of the digits in its row. The numbers were chosen on
# numbers made of validation images (benchmarks/pictures.py).
EACH = 0.1  # for every digit
UNCERTAINTY, SURE = 0.15, 5.3  # for the square of what the network's certainty lacks to this one
WIDTH, USUAL_WIDTH = 2.7, 0.65  # for the width above the usual one
LOWNESS, USUAL_HEIGHT = 7, 0.6  # for the height below the usual one
GAP = 4.3  # for the gaps in it
CUT = 2.5  # for the ink that is cut on both sides
TOO_MUCH = 2.5  # without the uncertainty: no digit costs more
SKIPPED = 3.2  # for ink that is no digit: as much for half a digit's ink and more
CLEAR = 0.6  # what costs less as one digit is not cut
SEVERAL = 1.0  # for several digits instead of one, besides their mean


class Digit(NamedTuple):
    """A digit in a picture."""

    image: np.ndarray  # (28, 28) uint8: what the network sees
    box: np.ndarray  # (4,): top, left, bottom, right, in pixels
    probabilities: np.ndarray  # (classes,): means over nine views, as a network is often too sure of a single one
    certainty: float  # of the network: 0 if all classes are equally probable
    first_certainty: float  # the same of the first view, the image as it is

    @property
    def ranking(self) -> list[int]:
        """The classes, by number, from the most to the least probable."""
        return self.probabilities.argsort()[::-1].tolist()

    def cost(self, height: float, gap: float = 0, cut: float = 0) -> float:
        """Return what speaks against a digit among others of this height, with gaps and cut ink, all in pixels."""
        uncertainty = max(0, SURE - self.certainty) ** 2
        return EACH + UNCERTAINTY * uncertainty + shape_cost(self.box, height, gap, cut)


def shape_cost(box: np.ndarray, height: float, gap: float = 0, cut: float = 0) -> float:
    """Return what the shape of a digit in a box, (4,), speaks against it."""
    h, w = (box[2:] - box[:2]) / height
    return WIDTH * max(0, w - USUAL_WIDTH) + LOWNESS * max(0, USUAL_HEIGHT - h) + (GAP * gap + CUT * cut) / height


def read_digits(picture: Image.Image, model: nn.Module) -> list[list[Digit]]:
    """Return the rows of digits in a picture, of mode RGB. The network is in evaluation mode.

    Raises UserError when there is no digit.
    """
    if (image := as_mnist(picture)) is not None:
        return [look(model, [(image, np.array([0, 0, *image.shape]))])]
    rows, region, score = best_reading(find_candidates(picture, COUNT), model)
    digits = [digit for row in rows for digit in row]
    extent = float(np.median([(digit.box[2:] - digit.box[:2]).max() for digit in digits] or [math.inf]))
    if extent < max(picture.size) / 2:  # look closer
        margin = extent * np.array([0.5, 1.5 if len(digits) > 1 else 0.5])  # pale digits may follow
        top, left = np.floor(region[:2] - margin).clip(0).astype(int)
        bottom, right = np.ceil(region[2:] + margin).clip(0, picture.size[::-1]).astype(int)
        parts = find_candidates(picture.crop((left, top, right, bottom)), COUNT, extent)
        closer, _, closer_score = best_reading(parts, model)
        if closer:
            rows = [[digit._replace(box=digit.box + [top, left, top, left]) for digit in row] for row in closer]
            score = closer_score
    if score - RICHNESS * math.log(max(1, sum(map(len, rows)))) < MIN_SCORE:
        raise UserError(NO_DIGIT)
    return rows


def best_reading(parts: list[Candidate], model: nn.Module) -> tuple[list[list[Digit]], np.ndarray, float]:
    """Return the rows of digits in the likeliest part, the part's region and score: [], any and -inf without parts."""
    best = [], np.zeros(4), -math.inf
    for part in parts:
        if part.score + HIGHEST_CERTAINTY > best[2] and (rows := read_part(part, model)):
            certainties = [digit.first_certainty for row in rows for digit in row]
            score = part.score + float(np.mean(certainties)) + RICHNESS * math.log(len(certainties))
            best = max(best, (rows, part.region, score), key=lambda reading: reading[2])
    return best


def read_part(part: Candidate, model: nn.Module) -> list[list[Digit]]:
    """Return the rows of digits in a part of a picture, of one digit if that speaks for itself."""
    box = np.array([0, 0, *part.ink.shape]) + MARGIN * np.array([1, 1, -1, -1])
    if (image := normalize(part.ink)) is None:
        return []
    (whole,) = look(model, [(image, box)])
    rows, cost = [[whole]], whole.cost(box[2] - box[0])
    if cost > CLEAR:
        paths = [cheapest_path(*row) for row in find_options(part.ink, model)]
        several = [digits for _, digits in paths if digits]
        certainties = [digit.certainty for row in several for digit in row]
        mean_cost = sum(cost for cost, _ in paths) / max(1, len(certainties))
        if certainties and mean_cost + SEVERAL < cost and np.mean(certainties) > MIN_CERTAINTY:
            rows = several
    scale = (part.box[2:] - part.box[:2]).max() / (box[2:] - box[:2]).max()
    corner = np.tile(part.box[:2], 2)
    return [[digit._replace(box=corner + scale * (digit.box - MARGIN)) for digit in row] for row in rows]


def look(model: nn.Module, found: list[tuple[np.ndarray, np.ndarray]]) -> list[Digit]:
    """Return what the network reads in images, (28, 28) uint8, each given with its box."""
    if not found:
        return []
    with torch.inference_mode():
        batch = torch.cat([views(torch.from_numpy(image) / 255) for image, _ in found])  # (9 N, 1, 28, 28)
        views_ = model(batch).softmax(dim=1).view(len(found), 9, -1).numpy()  # (N, 9, classes)
    means = views_.mean(axis=1)
    # The Kullback-Leibler divergence of the probabilities from equal ones: high if the network is sure.
    divergences = -math.log(means.shape[1]) - np.log(np.stack([means, views_[:, 0]])).mean(axis=2)
    certainties = (CERTAINTY_WEIGHT * np.log1p(divergences.clip(0))).T.tolist()
    return [Digit(*pair, mean, *both) for pair, mean, both in zip(found, means, certainties, strict=True)]


Option = tuple[int, int, float, Digit]  # a digit that the pieces from one to before another may be, and its cost


def find_options(ink: np.ndarray, model: nn.Module) -> list[tuple[np.ndarray, list[Option]]]:
    """Return, for each row of digits in ink, (H, W), what it costs to skip each of its pieces, and the options.

    The pieces stand from left to right by their centres.
    """
    labels, _ = cast(tuple, ndimage.label(ink > 0.5, EIGHT_CONNECTED))
    weights, boxes = np.bincount(labels.ravel(), ink.ravel())[1:], boxes_of(labels)
    heights, is_speck = boxes[:, 2] - boxes[:, 0], weights < 0.02 * weights.max()
    order = heights.argsort()
    height = float(heights[order][np.searchsorted(weights[order].cumsum(), weights.sum() / 2)])  # the median of the ink
    labels[np.append(False, is_speck)[labels]] = 0
    large = np.flatnonzero(~is_speck & (heights >= 0.4 * height)).tolist()
    if len(large) > MOST:
        return []

    def image_of(names: list[int], box: np.ndarray) -> np.ndarray | None:
        return normalize(cut_out(box, ink, labels, np.isin(np.arange(labels.max() + 1), names)))

    images = [(image, boxes[i], i) for i in large if (image := image_of([i + 1], boxes[i])) is not None]
    digits = look(model, [(image, box) for image, box, _ in images])
    clear = {i for (*_, i), digit in zip(images, digits, strict=True) if digit.cost(height) < CLEAR}
    cuts = {}  # of a label, the ink that is cut on its left and right
    for i in set(large) - clear:
        top, left, bottom, right = boxes[i]
        here = labels[top:bottom, left:right]
        paths, crossed = seams(np.where(here == i + 1, ink[top:bottom, left:right], 0), 0.12 * height)
        first, place = labels.max() + 1, (np.arange(right - left)[:, None] > paths[:, None]).sum(axis=2)
        here[:] = np.where(here == i + 1, first + place, here)
        cuts |= {int(first) + k: pair for k, pair in enumerate(pairwise([0, *crossed, 0]))}

    result, typical = [], np.median(weights[large])
    weights = np.bincount(labels.ravel(), ink.ravel())
    row_of = rows_of(boxes[large], len(ink))
    boxes = np.insert(boxes_of(labels), 0, 0, axis=0)  # by label
    middles = (boxes[:, :2] + boxes[:, 2:]) // 2
    for number in range(row_of.max()):
        row = [k for k in np.flatnonzero(weights).tolist() if k and row_of[middles[k, 0]] == number + 1]
        row.sort(key=lambda k: boxes[k, 1] + boxes[k, 3])
        options, found = [], []
        for first, end in combinations(range(len(row) + 1), 2):
            names = row[first:end]
            box, some = around(boxes[names]), boxes[names]
            gap = np.maximum(0, some[1:, 1] - np.maximum.accumulate(some[:-1, 3])).sum()
            cut = cuts.get(names[0], (0, 0))[0] + cuts.get(names[-1], (0, 0))[1]
            if shape_cost(box, height, gap, cut) > TOO_MUCH:
                continue
            if (image := image_of(names, box)) is not None:
                options.append((first, end, gap, cut))
                found.append((image, box))
        skipped = SKIPPED * (2 * weights[row] / typical).clip(max=1)
        digits = look(model, found)
        result.append((skipped, [(*o[:2], d.cost(height, *o[2:]), d) for o, d in zip(options, digits, strict=True)]))
    return result


def rows_of(boxes: np.ndarray, height: int) -> np.ndarray:
    """Return the row, from 1, to which each line of a picture of this height belongs: (height,).

    A row is where the middles of components, given by their boxes, (N, 4), overlap.
    """
    is_row = np.zeros(height, bool)
    for top, _, bottom, _ in boxes:
        is_row[top + (bottom - top) // 5 : bottom - (bottom - top) // 5] = True
    nearest = cast(np.ndarray, ndimage.distance_transform_edt(~is_row, return_distances=False, return_indices=True))
    return cast(tuple, ndimage.label(is_row))[0][nearest[0]]


def cheapest_path(skipped: np.ndarray, options: list[Option]) -> tuple[float, list[Digit]]:
    """Return what the cheapest way to read all pieces costs, and its digits."""
    best = [(0.0, [])]  # of the pieces before each
    for end, cost in enumerate(skipped.tolist(), 1):
        ways = [(best[end - 1][0] + cost, best[end - 1][1])]
        for first, last, cost, digit in options:
            if last == end and not any(is_over(digit.box, before.box) for before in best[first][1][-1:]):
                ways.append((best[first][0] + cost, [*best[first][1], digit]))
        best.append(min(ways, key=lambda way: way[0]))
    return best[-1]


def is_over(box: np.ndarray, other: np.ndarray) -> bool:
    """Return whether a box overlaps with another one by half the narrower one's width."""
    overlap = min(box[3], other[3]) - max(box[1], other[1])
    return overlap > 0.5 * min(box[3] - box[1], other[3] - other[1])


def seams(ink: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the seams from top to bottom of ink, (h, w), that cross little of it, a spacing apart at mid-height.

    They are given by their columns, (h, N), from left to right, and by the ink that each crosses, (N,).
    """
    cost, middle = ink + 0.01, len(ink) // 2
    above, paths_above = cheapest_seams(cost[: middle + 1])
    below, paths_below = cheapest_seams(cost[: middle - 1 if middle else None : -1])
    through = above + below - cost[middle]
    is_low = (through == ndimage.minimum_filter1d(through, 5)) & (through < 0.6 * len(ink))
    chosen = []
    for x in sorted(np.flatnonzero(is_low), key=lambda x: through[x]):
        if spacing / 2 <= x <= len(through) - spacing / 2 and all(abs(x - other) >= spacing for other in chosen):
            chosen.append(x)
    return np.concatenate([paths_above, paths_below[-2::-1]])[:, sorted(chosen)], through[sorted(chosen)]


def cheapest_seams(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what the cheapest path costs from the first row of cost, (n, w), to each place of the last one: (w,).

    Also return the columns of these paths in all rows, (n, w).
    """
    total, steps, columns = cost[0], [], [np.arange(cost.shape[1])]
    for row in cost[1:]:
        padded = np.pad(total, 1, constant_values=np.inf)
        before = np.stack([padded[:-2] + 0.01, padded[1:-1], padded[2:] + 0.01])  # from the left, straight, the right
        steps.append(columns[0] + before.argmin(axis=0) - 1)
        total = row + before.min(axis=0)
    for step in reversed(steps):
        columns.insert(0, step[columns[0]])
    return total, np.array(columns)
