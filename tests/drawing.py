"""Digits drawn with a pen, as people draw them: each as strokes, lists of points (x, y) in [0, 1]."""

import io
from contextlib import suppress

import numpy as np
from PIL import Image, ImageDraw

from common.command_line import UserError
from own_digits.reader import DIGITS, read_number


def arc(centre, radii, start: float, end: float) -> list[tuple[float, float]]:
    """Return points of an ellipse from one angle, in degrees clockwise from the right, to another."""
    angles = np.radians(np.linspace(start, end, 40))
    return list(zip(centre[0] + radii[0] * np.cos(angles), centre[1] + radii[1] * np.sin(angles), strict=True))


STROKES = {
    0: [arc((0.5, 0.5), (0.33, 0.48), -90, 270)],
    1: [[(0.58, 0.02), (0.45, 0.98)]],
    2: [[*arc((0.5, 0.28), (0.3, 0.26), -170, 40), (0.2, 0.95), (0.85, 0.93)]],
    3: [[*arc((0.48, 0.26), (0.27, 0.24), -160, 80), *arc((0.46, 0.73), (0.32, 0.25), -80, 160)]],
    4: [[(0.3, 0.05), (0.15, 0.55), (0.85, 0.53)], [(0.7, 0.1), (0.62, 0.98)]],
    5: [[(0.8, 0.04), (0.3, 0.06), (0.25, 0.42), *arc((0.45, 0.68), (0.33, 0.28), -110, 150)]],
    6: [[(0.7, 0.02), (0.35, 0.4), *arc((0.48, 0.72), (0.26, 0.26), 190, -170)]],
    7: [[(0.15, 0.06), (0.85, 0.05), (0.42, 0.98)]],
    8: [[*arc((0.5, 0.26), (0.24, 0.23), 90, 450), *arc((0.5, 0.74), (0.3, 0.25), -90, 270)]],
    9: [[*arc((0.48, 0.3), (0.27, 0.27), -20, 340), (0.76, 0.25), (0.66, 0.98)]],
}


def draw(digit: int, size: int = 400, height: float = 0.6, pen: int = 12, offset=(0.0, 0.0)) -> np.ndarray:
    """Return the ink of a digit on a square canvas: (size, size) floats in [0, 1], 1 for ink.

    height and offset, of its centre from the canvas's, are fractions of the size; pen is a width in pixels.
    """
    scale = 4  # for grey edges
    image = Image.new("L", (scale * size, scale * size))
    canvas = ImageDraw.Draw(image)
    shift = np.array([0.5, 0.5]) + offset - 0.5 * height
    radius = scale * pen / 2
    for stroke in STROKES[digit]:
        points = scale * size * (height * np.array(stroke) + shift)
        canvas.line([tuple(point) for point in points], fill=255, width=scale * pen, joint="curve")
        for x, y in points[[0, -1]]:
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(image.resize((size, size), Image.Resampling.BOX)) / 255


def as_file(image: Image.Image, kind: str = "png", **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file


def png(pixels: np.ndarray) -> io.BytesIO:
    """Return a PNG file of floats in [0, 1], (H, W) or (H, W, 3)."""
    return as_file(Image.fromarray(np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8)))


def misread(model, digits, file_of) -> list[int]:
    """Return those of the digits that a network misreads, or doesn't find, in the files that file_of(digit) returns."""

    def is_read(digit: int) -> bool:
        with suppress(UserError):
            return read_number(model, file_of(digit)).number(DIGITS) == str(digit)
        return False

    return [digit for digit in digits if not is_read(digit)]
