"""The sheet of paper on a table, or the framed field, that a digit stands on, cut out of what is around it."""

from itertools import combinations, product

import numpy as np
from PIL import Image
from scipy import ndimage

WORKING_SIZE = 400  # pixels on the longer side, in which a sheet or a digit is looked for
LEAST_SIZE = 50  # pixels on the shorter side of a picture, for it to show a sheet with a digit
LEAST_PART = 0.2  # of the picture, for a sheet
DIRECTIONS = np.exp(2j * np.pi * np.arange(24) / 24)  # as complex numbers, x + iy, like all points here


def shrink(picture: Image.Image) -> tuple[Image.Image, float]:
    """Return a picture in the working size, or as it is if it is smaller, and how many times as large it is now."""
    scale = min(1, WORKING_SIZE / max(picture.size))
    size = [max(1, round(scale * length)) for length in picture.size]
    return picture.resize(size, Image.Resampling.BOX), scale


def cut_out_sheet(picture: Image.Image) -> Image.Image:
    """Return the sheet that a picture, of mode RGB, shows with something else around it; all of it if there is none.

    The result is a rectangle. What isn't sheet there is painted over in the colours that the sheet has nearby.
    """
    if min(picture.size) < LEAST_SIZE:
        return picture
    small, scale = shrink(picture)
    grey = ndimage.gaussian_filter(np.asarray(small.convert("L"), np.float32), 1)
    sheet = find_sheet(grey)
    if sheet is None:
        return picture
    nearest = ndimage.distance_transform_edt(~sheet, return_distances=False, return_indices=True)
    paint = Image.fromarray(np.asarray(small)[tuple(nearest)]).resize(picture.size)
    whole = Image.composite(picture, paint, Image.fromarray(sheet).resize(picture.size))
    rows, columns = np.nonzero(sheet)
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / scale
    return whole.crop(tuple(box.astype(int).tolist()))


def find_sheet(grey: np.ndarray) -> np.ndarray | None:
    """Return where the largest sheet is, (H, W), in a picture's grey levels, (H, W), or None.

    It is a quadrilateral of one tone, with sharp edges to another. One that holds a corner of the picture may be the
    part of a sheet that lies in the light, and a dark one at the picture's edge may be a shadow: they are none.
    """
    middle = otsu_threshold(grey)
    # A sheet that is half in a shadow makes three tones, with what it lies on.
    thresholds = [middle, otsu_threshold(grey[grey <= middle]), otsu_threshold(grey[grey > middle])]
    sheets = []
    for is_light, threshold in product((True, False), thresholds):
        mask = (grey > threshold) == is_light
        labels, _ = ndimage.label(mask)
        sizes = np.bincount(labels[mask])
        for label in np.flatnonzero(sizes > LEAST_PART * mask.size):
            part = labels == label
            top_and_bottom, left_and_right = part[[0, -1]], part[:, [0, -1]]  # edges of the picture
            has_corner = top_and_bottom[:, [0, -1]].any()
            if has_corner or (not is_light and (top_and_bottom.any() or left_and_right.any())):
                continue
            sheet = ndimage.binary_fill_holes(part)
            if is_quadrilateral(sheet) and is_sharp(grey, sheet):
                sheets.append(sheet)
    if not sheets:
        return None
    return ndimage.binary_erosion(max(sheets, key=np.sum), iterations=max(2, max(grey.shape) // 70))  # without a frame


def is_sharp(grey: np.ndarray, sheet: np.ndarray) -> bool:
    """Return whether grey levels, (H, W), change where a sheet, (H, W), ends, as they don't where a shadow does."""
    inside = sheet & ~ndimage.binary_erosion(sheet, iterations=3)
    outside = ndimage.binary_dilation(sheet, iterations=3) & ~sheet
    change = grey[inside].mean() - grey[outside].mean()
    return abs(change) > 0.5 * abs(grey[sheet].mean() - grey[~sheet].mean())


def is_quadrilateral(mask: np.ndarray) -> bool:
    """Return whether a mask, (H, W), is nearly a convex quadrilateral whose sides are not too different."""
    outline = np.argwhere(mask & ~ndimage.binary_erosion(mask)) @ [1j, 1]
    hull = outline[(outline[:, None] * DIRECTIONS.conj()).real.argmax(axis=0)]  # the farthest point in each direction
    candidates = hull[list(combinations(range(len(hull)), 4))]
    best = candidates[area(candidates).argmax()]
    longest_side = np.abs(best - np.roll(best, 1)).max()
    return min(area(best), mask.sum()) > 0.9 * area(hull) and area(best) > 0.35 * longest_side**2


def area(polygons: np.ndarray) -> np.ndarray:
    """Return the areas of polygons, (..., N) points."""
    return np.abs((polygons.conj() * np.roll(polygons, -1, axis=-1)).imag.sum(axis=-1)) / 2


def otsu_threshold(grey: np.ndarray) -> float:
    """Return the value that parts grey in the two most different tones (N. Otsu, IEEE Transactions SMC 9(1), 1979)."""
    counts, edges = np.histogram(grey, 64)
    values = (edges[1:] + edges[:-1]) / 2
    below, sum_below = np.cumsum(counts), np.cumsum(counts * values)
    above, sum_above = below[-1] - below, sum_below[-1] - sum_below
    difference = sum_below / np.maximum(below, 1) - sum_above / np.maximum(above, 1)
    return edges[1:][(below * above * difference**2).argmax()]
