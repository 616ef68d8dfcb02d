"""Read all digits in a picture, row by row: the network says which pieces of ink belong together.

Ink is cut wherever digits may touch, which gives more pieces than digits. Any neighbouring pieces together may be a
digit. Its cost is higher if the network is less certain, or its shape unlikely. Dynamic programming finds the
sequence of digits that costs least. This is heuristic over-segmentation (Y. LeCun, L. Bottou, Y.
Bengio, P. Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of the IEEE 86(11), 1998).
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

CERTAINTY_WEIGHT = 2  # weight of the network's certainty in a part's score
HIGHEST_CERTAINTY = 6.3  # the network's highest certainty for any MNIST digit
COUNT_WEIGHT = 0.5  # weight of the logarithm of the number of digits in a part's score
MIN_SCORE = -1.2  # lowest score of a part; with the weights in results/reading, blank paper has less
MIN_CERTAINTY = 2.2  # lowest mean over several digits; blank paper has less
MAX_COMPONENTS = 100  # those as large as digits; a picture with more shows no handwriting

# The costs of a digit, in which lengths are in units of the height of the other digits. All constants were chosen on
# numbers made of validation images (benchmarks/pictures.py).
EACH = 0.1  # for every digit
UNCERTAINTY, SURE = 0.15, 5.3  # cost per square of how far the certainty is below SURE
WIDTH, USUAL_WIDTH = 2.7, 0.65  # cost per width above the usual one
HEIGHT, USUAL_HEIGHT = 7, 0.6  # cost per height below the usual one
GAP = 4.3  # cost per width of the gaps inside it
CUT = 2.5  # cost per ink that was cut, left and right together
MAX_SHAPE_COST = 2.5  # digits of a more unlikely shape aren't considered
SKIPPED = 3.2  # for a piece that is no digit; in proportion to its ink if it has less than half a digit's
CLEAR = 0.6  # a component that costs less as one digit is not cut
SEVERAL = 1.0  # for reading a part as several digits, on top of their mean cost


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
        """Return its cost among digits of this height, with the gaps inside it and the ink that was cut, in pixels."""
        uncertainty = max(0, SURE - self.certainty) ** 2
        return EACH + UNCERTAINTY * uncertainty + shape_cost(self.box, height, gap, cut)


def shape_cost(box: np.ndarray, height: float, gap: float = 0, cut: float = 0) -> float:
    """Return the part of a digit's cost that depends on its shape: its box, (4,), gaps and cut ink."""
    h, w = (box[2:] - box[:2]) / height
    return WIDTH * max(0, w - USUAL_WIDTH) + HEIGHT * max(0, USUAL_HEIGHT - h) + (GAP * gap + CUT * cut) / height


def read_digits(picture: Image.Image, model: nn.Module) -> list[list[Digit]]:
    """Return the rows of digits in a picture, of mode RGB. The network is in evaluation mode.

    Raises UserError when there is no digit.
    """
    if (image := as_mnist(picture)) is not None:
        return [look(model, [(image, np.array([0, 0, *image.shape]))])]
    rows, region, score = best_reading(find_candidates(picture), model)
    digits = [digit for row in rows for digit in row]
    extent = float(np.median([(digit.box[2:] - digit.box[:2]).max() for digit in digits] or [math.inf]))
    is_wider = extent < max(picture.size) / 2
    while is_wider:  # look closer, and again if there are more digits beside those that were found
        is_row = region[3] - region[1] > 1.5 * extent
        margin = extent * np.array([0.5, 2 if is_row else 0.5])
        top, left = np.floor(region[:2] - margin).clip(0).astype(int)
        bottom, right = np.ceil(region[2:] + margin).clip(0, picture.size[::-1]).astype(int)
        corner = [top, left, top, left]
        parts = find_candidates(picture.crop((left, top, right, bottom)), extent)
        closer, closer_region, closer_score = best_reading(parts, model)
        if not closer:
            break
        rows, score = [[digit._replace(box=digit.box + corner) for digit in row] for row in closer], closer_score
        before, region = region, around(np.stack([region, closer_region + corner]))
        is_wider = region[3] - region[1] > before[3] - before[1] + extent / 2
    if score - COUNT_WEIGHT * math.log(max(1, sum(map(len, rows)))) < MIN_SCORE:
        raise UserError("there is no digit in the picture")
    return rows


def best_reading(parts: list[Candidate], model: nn.Module) -> tuple[list[list[Digit]], np.ndarray, float]:
    """Return the rows of digits in the likeliest part, its region and its score; without parts, [], zeros and -inf."""
    best = [], np.zeros(4), -math.inf
    for part in parts:
        if part.score + HIGHEST_CERTAINTY > best[2] and (rows := read_part(part, model)):
            certainties = [digit.first_certainty for row in rows for digit in row]
            score = part.score + float(np.mean(certainties)) + COUNT_WEIGHT * math.log(len(certainties))
            best = max(best, (rows, part.region, score), key=lambda reading: reading[2])
    return best


def read_part(part: Candidate, model: nn.Module) -> list[list[Digit]]:
    """Return the rows of digits in a part of a picture. It is read as one digit unless several cost clearly less."""
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
        answers = model(batch).softmax(dim=1).view(len(found), 9, -1).numpy()  # (N, 9, classes)
    means = answers.mean(axis=1)
    # The Kullback-Leibler divergence of the probabilities from equal ones is high if the network is certain.
    divergences = -math.log(means.shape[1]) - np.log(np.stack([means, answers[:, 0]])).mean(axis=2)
    certainties = (CERTAINTY_WEIGHT * np.log1p(divergences.clip(0))).T.tolist()
    return [Digit(*pair, mean, *both) for pair, mean, both in zip(found, means, certainties, strict=True)]


Option = tuple[int, int, float, Digit]  # first piece, end (exclusive), cost, and the digit that these pieces may be


def find_options(ink: np.ndarray, model: nn.Module) -> list[tuple[np.ndarray, list[Option]]]:
    """Return, for each row of digits in ink, (H, W), the cost of skipping each of its pieces, and the options.

    The pieces are sorted from left to right by their centres.
    """
    labels, _ = cast(tuple, ndimage.label(ink > 0.5, EIGHT_CONNECTED))
    weights, boxes = np.bincount(labels.ravel(), ink.ravel())[1:], boxes_of(labels)
    heights, is_speck = boxes[:, 2] - boxes[:, 0], weights < 0.02 * weights.max()
    order = heights.argsort()
    height = float(heights[order][np.searchsorted(weights[order].cumsum(), weights.sum() / 2)])  # median, by ink
    labels[np.append(False, is_speck)[labels]] = 0
    large = np.flatnonzero(~is_speck & (heights >= 0.4 * height)).tolist()
    if len(large) > MAX_COMPONENTS:
        return []
    row_of, half_a_digit = rows_of(boxes[large], len(ink)), np.median(weights[large]) / 2

    def look_at(groups: list[list[int]]) -> list[Digit | None]:
        """Return what the network reads in groups of labels; None for what normalize() refuses."""
        boxes, names = boxes_of(labels), np.arange(labels.max() + 1)
        around_them = [around(boxes[np.array(group) - 1]) for group in groups]
        cut = [cut_out(box, ink, labels, np.isin(names, group)) for box, group in zip(around_them, groups, strict=True)]
        images = [normalize(part) for part in cut]
        found = [(image, box) for image, box in zip(images, around_them, strict=True) if image is not None]
        digits = iter(look(model, found))
        return [None if image is None else next(digits) for image in images]

    cuts = {}  # a piece's label -> the ink that is cut on its left and right
    for index, digit in zip(large, look_at([[index + 1] for index in large]), strict=True):
        if digit and digit.cost(height) < CLEAR:
            continue
        top, left, bottom, right = boxes[index]
        here = labels[top:bottom, left:right]
        is_component, first = here == index + 1, int(labels.max()) + 1
        paths, crossed = seams(np.where(is_component, ink[top:bottom, left:right], 0), 0.12 * height)
        place = (np.arange(right - left)[:, None] > paths[:, None]).sum(axis=2)  # how many seams are on the left
        here[is_component] = first + place[is_component]
        cuts |= {first + k: both for k, both in enumerate(pairwise([0, *crossed, 0]))}

    weights, boxes = np.bincount(labels.ravel(), ink.ravel())[1:], boxes_of(labels)
    middles, centres = (boxes[:, 0] + boxes[:, 2]) // 2, boxes[:, 1] + boxes[:, 3]
    result = []
    for number in range(1, row_of.max() + 1):
        row = np.flatnonzero((weights > 0) & (row_of[middles] == number))
        row = row[centres[row].argsort(kind="stable")]
        groups, shapes = [], []
        for first, end in combinations(range(len(row) + 1), 2):
            some = boxes[row[first:end]]
            gap = np.maximum(0, some[1:, 1] - np.maximum.accumulate(some[:-1, 3])).sum()
            cut = cuts.get(row[first] + 1, (0, 0))[0] + cuts.get(row[end - 1] + 1, (0, 0))[1]
            if shape_cost(around(some), height, gap, cut) <= MAX_SHAPE_COST:
                groups.append((row[first:end] + 1).tolist())
                shapes.append((first, end, gap, cut))
        options = [
            (first, end, digit.cost(height, gap, cut), digit)
            for (first, end, gap, cut), digit in zip(shapes, look_at(groups), strict=True)
            if digit
        ]
        result.append((SKIPPED * (weights[row] / half_a_digit).clip(max=1), options))
    return result


def rows_of(boxes: np.ndarray, height: int) -> np.ndarray:
    """Return the row of digits, counted from 1, to which each line of pixels of a picture belongs: (height,).

    Components, given by their boxes, (N, 4), are in one row if their middle parts overlap in height.
    """
    is_row = np.zeros(height, bool)
    for top, _, bottom, _ in boxes:
        is_row[top + (bottom - top) // 5 : bottom - (bottom - top) // 5] = True
    nearest = cast(np.ndarray, ndimage.distance_transform_edt(~is_row, return_distances=False, return_indices=True))
    return cast(tuple, ndimage.label(is_row))[0][nearest[0]]


def cheapest_path(skipped: np.ndarray, options: list[Option]) -> tuple[float, list[Digit]]:
    """Return what the cheapest way to read all pieces costs, and its digits."""
    best = [(0.0, [])]  # cost and digits of the first 0, 1, ... pieces
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
    """Return paths from top to bottom of ink, (h, w), that cross little of it, `spacing` or more apart at mid-height.

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
    """Return the cost of the cheapest path from the first row of cost, (n, w), to each place of the last one: (w,).

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
