"""Find the sheet of paper on a table, or the framed field, that a digit is written on, and crop the picture to it."""

from itertools import combinations, product

import numpy as np
from PIL import Image
from scipy import ndimage

WORKING_SIZE = 400  # pixels on the longer side of the copy in which sheets and digits are looked for
MIN_SIZE = 50  # pixels on the shorter side; smaller pictures are not searched for a sheet
MIN_SHARE = 0.2  # of the picture that a sheet covers
ANGLES = 2 * np.pi * np.arange(24) / 24
DIRECTIONS = np.stack([np.sin(ANGLES), np.cos(ANGLES)])  # (2, 24) unit vectors: y, x


def shrink(picture: Image.Image) -> tuple[Image.Image, float]:
    """Return a copy of a picture in the working size and its scale, at most 1: small pictures keep their size."""
    scale = min(1, WORKING_SIZE / max(picture.size))
    size = [max(1, round(scale * length)) for length in picture.size]
    return picture.resize(size, Image.Resampling.BOX), scale


def borders_of(array: np.ndarray) -> np.ndarray:
    """Return the values in the first and last row and column of an array, (H, W)."""
    return np.concatenate([array[0], array[-1], array[:, 0], array[:, -1]])


def cut_out_sheet(picture: Image.Image) -> Image.Image:
    """Return the part of a picture, of mode RGB, that shows a sheet of paper; all of it if no sheet is found.

    The result is the sheet's bounding box. Pixels in it that are not of the sheet get the colour of its nearest pixel.
    """
    if min(picture.size) < MIN_SIZE:
        return picture
    small, scale = shrink(picture)
    grey = ndimage.gaussian_filter(np.asarray(small.convert("L"), np.float32), 1)
    sheet = find_sheet(grey)
    if sheet is None:
        return picture
    nearest = ndimage.distance_transform_edt(~sheet, return_distances=False, return_indices=True)
    background = Image.fromarray(np.asarray(small)[tuple(nearest)]).resize(picture.size)
    mask = Image.fromarray(sheet)
    box = [int(side / scale) for side in mask.getbbox()]
    return Image.composite(picture, background, mask.resize(picture.size)).crop(box)


def find_sheet(grey: np.ndarray) -> np.ndarray | None:
    """Return a mask, (H, W), of the largest sheet in a picture's grey levels, (H, W), or None if there is no sheet.

    A sheet is a quadrilateral of one tone with sharp edges. Regions with a corner of the picture are left out, because
    they may be the lit part of a larger sheet, and so are dark regions at its borders, because they may be shadows.
    """
    middle = otsu_threshold(grey)
    # A sheet half in shadow has two tones, and the table has a third, so both halves of the tones are split again.
    thresholds = [middle, otsu_threshold(grey[grey <= middle]), otsu_threshold(grey[grey > middle])]
    sheets = []
    for is_light, threshold in product((True, False), thresholds):
        mask = (grey > threshold) == is_light
        labels, _ = ndimage.label(mask)
        areas = np.bincount(labels[mask])
        for label in np.flatnonzero(areas > MIN_SHARE * mask.size):
            region = labels == label
            has_corner = region[[0, 0, -1, -1], [0, -1, 0, -1]].any()
            if has_corner or (not is_light and borders_of(region).any()):
                continue
            sheet = ndimage.binary_fill_holes(region)
            if is_quadrilateral(sheet) and has_sharp_edges(grey, sheet):
                sheets.append(sheet)
    if not sheets:
        return None
    return ndimage.binary_erosion(max(sheets, key=np.sum), iterations=max(2, max(grey.shape) // 70))  # without a frame


def has_sharp_edges(grey: np.ndarray, sheet: np.ndarray) -> bool:
    """Return whether grey levels, (H, W), change abruptly at the edges of a sheet, (H, W), unlike those of a shadow."""
    inside = sheet & ~ndimage.binary_erosion(sheet, iterations=3)
    outside = ndimage.binary_dilation(sheet, iterations=3) & ~sheet
    change = grey[inside].mean() - grey[outside].mean()
    return abs(change) > 0.5 * abs(grey[sheet].mean() - grey[~sheet].mean())


def is_quadrilateral(mask: np.ndarray) -> bool:
    """Return whether a mask, (H, W), is nearly a convex quadrilateral whose sides don't differ too much."""
    outline = np.argwhere(mask & ~ndimage.binary_erosion(mask))  # (P, 2): y, x
    hull = outline[(outline @ DIRECTIONS).argmax(axis=0)]  # (24, 2): the farthest point in each direction
    quadrilaterals = hull[list(combinations(range(len(hull)), 4))]  # (10,626, 4, 2)
    largest = quadrilaterals[polygon_area(quadrilaterals).argmax()]
    longest_side = np.linalg.norm(largest - np.roll(largest, 1, axis=0), axis=1).max()
    area, hull_area = polygon_area(largest), polygon_area(hull)
    return min(area, mask.sum()) > 0.9 * hull_area and area > 0.35 * longest_side**2


def polygon_area(polygons: np.ndarray) -> np.ndarray:
    """Return the areas, (...), of polygons, (..., N, 2), by the shoelace formula."""
    y, x = np.moveaxis(polygons, -1, 0)
    return np.abs((x * np.roll(y, -1, axis=-1) - y * np.roll(x, -1, axis=-1)).sum(axis=-1)) / 2


def otsu_threshold(grey: np.ndarray) -> float:
    """Return the threshold that best splits grey levels in two classes (N. Otsu, IEEE Transactions SMC 9(1), 1979)."""
    counts, edges = np.histogram(grey, 64)
    levels = (edges[1:] + edges[:-1]) / 2
    below, sum_below = np.cumsum(counts), np.cumsum(counts * levels)
    above, sum_above = below[-1] - below, sum_below[-1] - sum_below
    difference = sum_below / np.maximum(below, 1) - sum_above / np.maximum(above, 1)  # of the means of the classes
    return edges[1:][(below * above * difference**2).argmax()]
