"""Measure how well predict.py reads pictures: MNIST's images as files, their digits redrawn with pens, and photos.

    python -m benchmarks.pictures [--data-dir data] [--output results/pictures.md]

All pictures are made from the test images; the photos are simulated. To redraw a digit, its skeleton (T. Y. Zhang and
C. Y. Suen, Communications of the ACM 27(3), 1984) is traced with a round pen. The weights are those in
results/reading, which were trained on such drawings of training images and on such photos of blank paper
(reading_weights.py), or those of --checkpoint. Needs the extra benchmarks; takes about 20 minutes on two idle
CPU cores.
"""

import argparse
import difflib
import io
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image, ImageDraw
from scipy import ndimage
from torch.utils.data import TensorDataset

from benchmarks import REPOSITORY
from benchmarks.markdown import table
from common.command_line import UserError, user_path
from evaluate import evaluate
from mnist.dataset import load_data
from model import DigitCNN
from own_digits.reader import DIGITS, READING_WEIGHTS, read_number
from training.config import TrainConfig
from training.run_files import load_weights

CANVAS = 400  # pixels


def enlarge(image: np.ndarray, random: Generator, size: int) -> np.ndarray:
    """Return the ink, (size, size) in [0, 1], of an image of MNIST, (28, 28) uint8."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)) / 255


def scatter(image: np.ndarray, random: Generator) -> np.ndarray:
    """Return ink, up to (1000, 1000): the image at a random size, 28 to 800 pixels, and place on a random canvas."""
    size = random.integers(28, 801)
    height, width = random.integers(size + 1, 1001, 2)
    ink = np.zeros((height, width))
    top, left = random.integers(0, (height - size + 1, width - size + 1))
    ink[top : top + size, left : left + size] = enlarge(image, random, size)
    return ink


def redraw(
    image: np.ndarray, random: Generator, height: int, pen: int, canvas: int = CANVAS, margin=None
) -> np.ndarray:
    """Return ink, (canvas, canvas): the digit redrawn with this height and width of the pen, all in pixels.

    It is in the middle, or, given a margin, at a random place at least that far from the borders.
    """
    from skimage.morphology import skeletonize  # only this function needs scikit-image

    picture = Image.fromarray(image)
    picture = picture.crop(picture.getbbox())
    size = [max(3, round(height / max(picture.size) * length)) for length in picture.size]
    lines = np.argwhere(skeletonize(np.asarray(picture.resize(size, Image.Resampling.BICUBIC)) > 127))
    lines -= lines.min(axis=0)
    room = canvas - 1 - lines.max(axis=0)
    lines += room // 2 if margin is None else random.integers(margin + pen // 2, room - margin - pen // 2 + 1)
    is_paper = np.ones((canvas, canvas))
    is_paper[tuple(lines.T)] = 0
    return ((pen + 1) / 2 - ndimage.distance_transform_edt(is_paper)).clip(0, 1)


def photograph(
    ink: np.ndarray, light: Callable | None = None, lines: float = 0, squares: float = 0, noise: float = 0, pen=0.15
) -> np.ndarray:
    """Return a photo, (H, W), of ink on paper.

    light(x, y), with x and y from 0 to 1, is the brightness of the light; lines and squares say how much darker than
    the paper its printed lines are (0 for none); pen is the brightness of the ink; noise is a standard deviation.
    """
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]]
    is_row, is_column = (y + x // 20) % 45 < 3, (x - y // 20) % 45 < 3  # a little tilted
    paper = np.ones_like(ink)
    paper[is_row] -= max(lines, squares)
    paper[is_column & ~is_row] -= squares
    brightness = 0.9 * (1 if light is None else light(x / len(ink), y / len(ink)))
    random = np.random.default_rng(0)
    return brightness * (paper * (1 - ink) + pen * ink) + noise * random.standard_normal(ink.shape)


def with_table_and_thumb(ink: np.ndarray) -> np.ndarray:
    """Return a photo, (400, 400), with a table and a thumb at the borders."""
    photo = photograph(ink, noise=0.02)
    photo[:, :60] = 0.25
    photo[340:, 150:250] = 0.4
    return photo


def on_table(ink: np.ndarray, table: float, light: Callable | None = None, **options) -> np.ndarray:
    """Return a photo, (400, 400), of a sheet on a table, taken at an angle. table is the brightness of the table."""
    is_table = Image.new("1", ink.shape, 1)
    ImageDraw.Draw(is_table).polygon([(40, 35), (350, 15), (390, 370), (10, 385)], fill=0)
    wood = table * photograph(np.zeros_like(ink), light, noise=0.05)
    return np.where(is_table, wood, photograph(ink, light, noise=0.02, **options))


def in_frame(ink: np.ndarray) -> np.ndarray:
    """Return a picture, (400, 400), of ink in a field with a frame."""
    field = 1 - ink
    ImageDraw.Draw(frame := Image.new("1", ink.shape)).rectangle((30, 25, 370, 365), outline=1, width=3)
    return np.where(frame, 0.2, field)


def vague_shadow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return a dim light at (x, y), with a vague shadow on the right."""
    return 0.35 - 0.2 / (1 + np.exp(8 * (0.5 - x)))


def half_dark(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the light at (x, y) when a sharp shadow lies on the left."""
    return np.where(x + 0.3 * y > 0.6, 1, 0.5)


def handwriting(image: np.ndarray, random: Generator) -> np.ndarray:
    """Return ink, 100 x 100 to 400 x 400 pixels: the digit redrawn at a random size and place with a random pen."""
    canvas = random.integers(100, 401)
    height = round(canvas * random.uniform(0.4, 0.7))
    return redraw(image, random, height, round(height * random.uniform(0.04, 0.1)) + 1, canvas, round(0.07 * canvas))


def with_strip(ink: np.ndarray, random: Generator) -> np.ndarray:
    """Return a scan with a dark strip, 1% to 5% of the picture wide, along one edge or two that meet."""
    scan = photograph(ink, pen=random.uniform(0.1, 0.5), noise=0.01)
    first = random.integers(4)
    for turns in range(first, first + random.integers(1, 3)):
        widths = np.linspace(*len(scan) * random.uniform(0.01, 0.05, 2), len(scan))  # a little tilted
        rotated = np.rot90(scan, turns)  # a view of the same pixels
        rotated[np.arange(len(scan)) < widths[:, None]] = random.uniform(0, 0.3)
    return scan


def at_edge(ink: np.ndarray, random: Generator, edges: int, cut: float = 0) -> np.ndarray:
    """Return a picture of which some edges, 1 to 4, touch the digit or cut up to this part of its longer side off."""
    left, top, right, bottom = Image.fromarray(ink > 0.5).getbbox()
    box = [top, len(ink) - bottom, left, len(ink) - right]
    depth = random.uniform(0, cut) * max(right - left, bottom - top)
    for edge in random.permutation(4)[edges:]:
        box[edge] = -depth + random.integers(box[edge] + 1)  # paper that is left there
    top, bottom, left, right = (round(side + depth) for side in box)
    return photograph(ink[top : len(ink) - bottom, left : len(ink) - right], noise=0.01)


def pale_in_part(ink: np.ndarray, random: Generator) -> np.ndarray:
    """Return a picture whose ink gets gradually paler, until its contrast is a quarter."""
    y, x = np.mgrid[-1 : 1 : len(ink) * 1j, -1 : 1 : len(ink) * 1j]
    angle, place = random.uniform(0, 2 * np.pi), random.uniform(-0.3, 0.3)
    strength = 1 / (1 + np.exp(-8 * (x * np.cos(angle) + y * np.sin(angle) - place)))
    return photograph(ink * (0.25 + 0.75 * strength), noise=0.01)


def out_of_focus(ink: np.ndarray, random: Generator) -> np.ndarray:
    """Return a blurred photo of pale ink in uneven light."""
    ink = ndimage.gaussian_filter(ink, len(ink) * random.uniform(0.01, 0.02))
    pen, dark = random.uniform(0.5, 0.75), random.uniform(0.4, 1)
    return photograph(ink, lambda x, y: dark + (1 - dark) * x, pen=pen, noise=0.01)


def coloured(ink: np.ndarray, random: Generator) -> np.ndarray:
    """Return a picture, (H, W, 3), of coloured ink on coloured paper, which differ by 40% in a channel or more."""
    while True:
        pen, paper = random.uniform(0, 1, (2, 3))
        if np.abs(pen - paper).max() > 0.4:
            break
    picture = paper * (1 - ink[..., None]) + pen * ink[..., None]
    return picture + 0.02 * random.standard_normal(picture.shape)


def faint(ink: np.ndarray, random: Generator) -> np.ndarray:
    """Return a picture of 28 x 28 pixels: faint and blurred, light on black or dark on white."""
    ink = np.asarray(Image.fromarray(ink.astype(np.float32)).resize((28, 28), Image.Resampling.BOX))
    ink = random.uniform(0.25, 0.7) * ndimage.gaussian_filter(ink / ink.max(), random.uniform(0.5, 0.8))
    return random.choice([ink, 1 - ink])


def in_border(ink: np.ndarray, random: Generator) -> np.ndarray:
    """Return a picture with a frame along all of its edges, 1% to 4% of the picture wide."""
    picture = photograph(ink, pen=random.uniform(0.1, 0.4), noise=0.01)
    width = max(1, round(len(picture) * random.uniform(0.01, 0.04)))
    return np.pad(picture[width:-width, width:-width], width, constant_values=random.uniform(0, 0.5))


def on_grey_sheet(ink: np.ndarray, random: Generator) -> np.ndarray:
    """Return a digit that touches the edges of its grey sheet, which lies in the middle of a white square."""
    sheet = random.uniform(0.85, 1) * at_edge(ink, random, edges=random.integers(1, 5))
    missing = round(1.1 * max(sheet.shape)) - np.array(sheet.shape)
    return np.pad(sheet, [(side // 2, side - side // 2) for side in missing], constant_values=1)


def columns(rows: np.ndarray) -> np.ndarray:
    """Return the indices of the columns in which any of these rows of pixels, (R, W) uint8, has ink."""
    return np.flatnonzero((rows > 127).any(axis=0))


def reshape(image: np.ndarray, random: Generator, kind: str) -> np.ndarray:
    """Return a 1, 6 or 9 of this kind of SHAPES, (112, 112) uint8, made from a usual one of MNIST's, (28, 28) uint8."""
    large = Image.fromarray(image).resize((112, 112), Image.Resampling.BICUBIC)
    left, top, right, bottom = large.point(lambda value: 255 * (value > 127)).getbbox()
    height, width, draw = bottom - top, right - left, ImageDraw.Draw(large)
    pixels = np.asarray(large)
    y, x = np.mgrid[:112, :112].astype(float)
    if kind.startswith("1"):
        start = columns(pixels[top : top + 5]).mean(), top + 4
        angle, length = np.radians(random.uniform(25, 65)), height * random.uniform(0.25, 0.45)
        if kind == "1 with an upstroke" or random.random() < 0.7:
            draw.line([start, (start[0] - length * np.sin(angle), start[1] + length * np.cos(angle))], 255, 8)
        if kind == "1 with a base":
            end, sides = columns(pixels[bottom - 5 : bottom]).mean(), height * random.uniform(0.15, 0.45, 2)
            draw.line([end - sides[0], bottom - 4, end + sides[1], bottom - 4 + random.uniform(-6, 6)], 255, 8)
    elif kind == "9 with a hook":
        end = columns(pixels[bottom - 5 : bottom]).mean()
        across, down = width * random.uniform(0.5, 0.8), height * random.uniform(0.15, 0.3)
        draw.arc((end - across, bottom - down, end + 4, bottom + 4), 0, 180, 255, 8)
    elif kind == "9 with a small head":
        neck, part = top + height / 2, random.uniform(0.5, 0.7)
        y = np.where(y < neck, neck - (neck - y) / part, neck + (y - neck) / (1.6 - part))
        stem = columns(pixels[round(neck) :])[-1]
        x = stem + (x - stem) / part
    else:  # 6 with a wide hat
        bend = top + 0.4 * height
        left_most = columns(pixels[top : round(bend)])[0]
        stretch = random.uniform(0.5, 1.5)
        x = left_most + (x - left_most) / (1 + stretch * np.clip((bend - y) / height / 0.2, 0, 1))
        y = np.where(y < bend, bend - (bend - y) * random.uniform(1, 1.5), y)
    if kind.startswith("1") or kind == "9 with a hook":
        return np.asarray(large)
    return ndimage.map_coordinates(pixels, [y, x], order=1)


IMAGES = {
    **{f"{size} x {size} pixels": partial(enlarge, size=size) for size in (28, 280)},
    "28 to 800 pixels, anywhere on up to 1000 x 1000": scatter,
}
DRAWINGS = {
    **{f"pen of {pen}, height 280": partial(redraw, height=280, pen=pen) for pen in (1, 5, 12, 25, 40, 60)},
    "pen of 2, height 30, anywhere": partial(redraw, height=30, pen=2, margin=1),
    "pen of 10, height 150, anywhere": partial(redraw, height=150, pen=10, margin=1),
    "pen of 25, height 370": partial(redraw, height=370, pen=25),
    "pen of 5, height 120, anywhere on 1600 x 1600": partial(redraw, height=120, pen=5, canvas=1600, margin=1),
}
PAPER = partial(redraw, height=180, pen=12, margin=65)  # clear of the thumb
PHOTOS = {
    "blank paper": photograph,
    "uneven light": partial(photograph, light=lambda x, y: 0.4 + 0.6 * x),
    "soft shadow": partial(photograph, light=lambda x, y: 1 - 0.5 / (1 + np.exp(12 * (x + y - 1)))),
    "sharp shadow": partial(photograph, light=half_dark),
    "pencil, 30% darker than the paper": partial(photograph, pen=0.7),
    "noise, 15%": partial(photograph, noise=0.15),
    "ruled, lines 30% darker": partial(photograph, lines=0.3),
    "ruled, lines 50% darker": partial(photograph, lines=0.5),
    "squared, lines 30% darker": partial(photograph, squares=0.3),
    "squared, lines 50% darker": partial(photograph, squares=0.5),
    "squared 30%, sharp shadow, noise 3%": partial(photograph, light=half_dark, squares=0.3, noise=0.03),
    "a table and a thumb at the edges": with_table_and_thumb,
    "a sheet on a dark table": partial(on_table, table=0.2),
    "a squared sheet on a brighter table": partial(on_table, table=0.5, squares=0.3),
    "a sheet on a table, sharp shadow": partial(on_table, table=0.2, light=half_dark),
    "a field with a frame": in_frame,
    "dim ruled paper, vague shadow": partial(photograph, light=vague_shadow, lines=0.3, noise=0.02),
    "dim squared paper, vague shadow": partial(photograph, light=vague_shadow, squares=0.3, noise=0.02),
}

HARD = {
    "a dark strip along one edge or two": with_strip,
    "touches an edge": partial(at_edge, edges=1),
    "touches two edges": partial(at_edge, edges=2),
    "cropped to the digit": partial(at_edge, edges=4),
    "cut by an edge, up to 10%": partial(at_edge, edges=1, cut=0.1),
    "cut by two edges, up to 5%": partial(at_edge, edges=2, cut=0.05),
    "pale in part": pale_in_part,
    "out of focus and pale": out_of_focus,
    "coloured ink on coloured paper": coloured,
    "faint, 28 x 28 pixels": faint,
    "a frame along the edges": in_border,
    "touches the edges of a grey sheet on white": on_grey_sheet,
}
NUMBERS = {  # options of write_number, how many digits, and the paper
    "five digits, gaps of 50% to 100%": ({"gap": (0.5, 1)}, 5, "blank paper"),
    "five digits, gaps of 10% to 50%": ({"gap": (0.1, 0.5)}, 5, "blank paper"),
    "five digits that touch, gaps of -10% to 0%": ({"gap": (-0.1, 0)}, 5, "blank paper"),
    "two digits": ({}, 2, "blank paper"),
    "eight digits": ({}, 8, "blank paper"),
    "two rows of three": ({"rows": 2}, 6, "blank paper"),
    "three rows of three": ({"rows": 3}, 9, "blank paper"),
    "five digits in a frame": ({"frame": True}, 5, "blank paper"),
    "three digits with signs between": ({"signs": True}, 3, "blank paper"),
    **{f"five digits: {kind}": ({}, 5, kind) for kind, make in PHOTOS.items()
       if getattr(make, "func", None) is photograph},
}  # fmt: skip
KINDS = ("1 with an upstroke", "1 with a base", "9 with a hook", "9 with a small head", "6 with a wide hat")
SHAPES = {kind: int(kind[0]) for kind in KINDS}  # the digit of each kind


def write_number(images: np.ndarray, random: Generator, gap=(0.1, 1), rows=1, signs=False, frame=False) -> np.ndarray:
    """Return ink, (H, W): digits, each 84 to 156 pixels high, beside each other in rows, all a little slanted.

    images are MNIST's, (N, 28, 28) uint8. Each gap is a random part, in this range, of 72 pixels, a usual width. signs
    puts plus and minus signs between the digits, and frame a frame around them.
    """
    pen, ink = round(120 * random.uniform(0.05, 0.12)), np.zeros((264 * rows + 180, 400 * len(images) + 240))
    for row, part in enumerate(np.array_split(images, rows)):
        x = round(random.uniform(96, 144))
        for number, image in enumerate(part, 1):
            height = round(120 * random.uniform(0.7, 1.3))
            digit = redraw(image, random, height, pen, canvas=height + 3 * pen)
            left, top, right, bottom = Image.fromarray(digit > 0).getbbox()
            base = 240 + 264 * row + round(random.uniform(-12, 12))
            place = np.s_[base - bottom + top : base, x : x + right - left]
            ink[place] = np.maximum(ink[place], digit[top:bottom, left:right])
            x += right - left + round(72 * random.uniform(*gap))
            if signs and number < len(part):
                ink[base - 60 : base - 60 + pen, x : x + 45] = 1
                if random.random() < 0.5:  # a plus sign
                    ink[base - 82 : base - 37, x + 22 - pen // 2 : x + 22 + pen // 2] = 1
                x += 45 + round(72 * random.uniform(*gap))
    shear, angle = random.uniform(-0.2, 0.2), np.radians(random.uniform(-4, 4))
    matrix = np.array([[np.cos(angle), np.sin(angle)], [shear - np.sin(angle), np.cos(angle)]])
    ink = ndimage.affine_transform(ink, matrix, (np.eye(2) - matrix) @ ink.shape / 2, order=1)  # around its middle
    left, top, right, bottom = Image.fromarray(ink > 0.5).getbbox()
    ink = np.pad(ink[top:bottom, left:right], random.integers(40, 160, (2, 2)))
    return np.pad(np.pad(ink, pen, constant_values=1), 30) if frame else ink


def pixels_of(group: str, kind: str, image: np.ndarray, index: int) -> np.ndarray:
    """Return a picture of this group and kind, made from an image, (28, 28) uint8: (H, W) or (H, W, 3) in [0, 1]."""
    random = np.random.default_rng(index)
    if group == "photos":
        return PHOTOS[kind](PAPER(image, random))
    if group == "hard":
        return HARD[kind](handwriting(image, random), random)
    if group == "shapes":
        return photograph(handwriting(reshape(image, random, kind), random), noise=0.01)
    return 1 - (IMAGES if group == "images" else DRAWINGS)[kind](image, random)


def picture_file(pixels: np.ndarray, is_dark: bool, file_format: str) -> io.BytesIO:
    """Return a picture file in a format of Pillow's, with the ink dark on light or light on dark."""
    file = io.BytesIO()
    pixels = np.round(255 * pixels.clip(0, 1)).astype(np.uint8)
    Image.fromarray(pixels if is_dark else 255 - pixels).save(file, file_format)
    return file


@cache
def images_of(split: str, data_dir: Path) -> TensorDataset:
    return getattr(load_data(TrainConfig(), data_dir), split)


@cache
def model(checkpoint: Path) -> DigitCNN:
    torch.set_num_threads(1)
    network = DigitCNN().eval()
    load_weights(checkpoint, network)
    return network


def read(job: tuple[str, str, bool, int], split: str, data_dir: Path, checkpoint: Path) -> tuple[bool, float]:
    """Return whether the picture of a job is read correctly, and the probability of the answer."""
    group, kind, is_dark, index = job
    images, labels = images_of(split, data_dir).tensors
    file_format = "png" if group in ("images", "drawings") else "jpeg"
    pixels = pixels_of(group, kind, images[index].numpy(), index)
    try:
        answer = read_number(model(checkpoint), picture_file(pixels, is_dark, file_format))
    except UserError:
        return False, 0  # an error counts as a misread digit, and so do several digits
    return answer.number(DIGITS) == str(labels[index].item()), answer.probability


def read_numbers(job: tuple[str, int], split: str, data_dir: Path, checkpoint: Path) -> tuple[bool, float, bool]:
    """Return whether a number is read, which share of its characters is, and whether its first digit alone is read."""
    options, count, paper = NUMBERS[job[0]]
    random, (images, labels) = np.random.default_rng(job[1]), images_of(split, data_dir).tensors
    chosen = random.integers(len(images), size=count)
    rows = np.array_split(labels[chosen].numpy(), options.get("rows", 1))
    wanted = " ".join("".join(map(str, row)) for row in rows)

    def text(indices: np.ndarray, **options) -> str:
        photo = PHOTOS[paper](write_number(images[indices].numpy(), random, **options))
        try:
            return read_number(model(checkpoint), picture_file(photo, True, "jpeg")).number(DIGITS)
        except UserError:
            return ""

    found = text(chosen, **options)
    matches = difflib.SequenceMatcher(None, found, wanted, autojunk=False).get_matching_blocks()
    return found == wanted, sum(match.size for match in matches) / len(wanted), text(chosen[:1]) == wanted[0]


def numbers_table(count: int, pool: ProcessPoolExecutor, **where) -> str:
    """Return how many numbers of each kind are read, and how that compares with single digits on such paper."""
    rows, alone = [], {True: [], False: []}  # on blank paper, on other paper
    for kind in NUMBERS:
        found = pool.map(partial(read_numbers, **where), [(kind, index) for index in range(count)], chunksize=5)
        right, shares, singles = zip(*found, strict=True)
        alone[NUMBERS[kind][2] == "blank paper"] += singles
        rows.append([kind, np.mean(right), np.mean(shares)])
        print(*rows[-1], sep="\t", file=sys.stderr)
    for row in rows:
        _, digits, paper = NUMBERS[row[0]]
        single = np.mean(alone[paper == "blank paper"])
        row[1:] = f"{row[1]:.2%}", f"{row[2]:.2%}", f"{single:.2%}", f"{row[1] / single**digits:.3f}"
    return table(["Numbers", "Read", "Characters", "Single digits", "Numbers read / single digits ^ length"], rows)


def measure(
    group: str, kinds: dict, count: int, pool: ProcessPoolExecutor, split: str, data_dir: Path, checkpoint: Path
) -> tuple[list, list]:
    """Return a row of accuracies for each kind of picture, and the answers to all pictures.

    The accuracies are those of dark ink on light paper and, for images and drawings, of light ink on dark paper.
    """
    work, rows, answers = partial(read, split=split, data_dir=data_dir, checkpoint=checkpoint), [], []
    labels = images_of(split, data_dir).tensors[1]
    for kind in kinds:
        row = [kind]
        usable = (labels == kinds[kind]).nonzero().flatten() if group == "shapes" else range(len(labels))
        for is_dark in (True, False) if group in ("images", "drawings") else (True,):
            jobs = [(group, kind, is_dark, int(index)) for index in usable[:count]]
            found = list(pool.map(work, jobs, chunksize=20))
            answers += found
            row.append(f"{sum(is_right for is_right, _ in found) / len(found):.2%}")
        rows.append(row)
        print(*row, sep="\t", file=sys.stderr)
    return rows, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=user_path, default=REPOSITORY / "data", help="the folder with MNIST (default: data)"
    )
    parser.add_argument(
        "--checkpoint", type=user_path, default=READING_WEIGHTS, help="(default: results/reading/weights.pt)"
    )
    parser.add_argument("--output", type=user_path, help="also write the tables to this file")
    parser.add_argument("--split", choices=["test", "validation"], default="test", help="whose images (default: test)")
    parser.add_argument(
        "--images", type=int, default=1_000, help="how many images are saved as they are (default: 1,000)"
    )
    parser.add_argument("--drawings", type=int, default=300, help="how many are redrawn (default: 300)")
    parser.add_argument("--numbers", type=int, default=100, help="how many numbers of each kind (default: 100)")
    args = parser.parse_args()
    split = images_of(args.split, args.data_dir)
    images, drawings = (min(count, len(split)) for count in (args.images, args.drawings))
    exact = [evaluate(model(args.checkpoint), TensorDataset(*split[:count])).accuracy for count in (images, drawings)]
    headings = ["Dark on light", "Light on dark"]
    where = {"split": args.split, "data_dir": args.data_dir, "checkpoint": args.checkpoint}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        run = partial(measure, pool=pool, **where)
        image_rows, _ = run("images", IMAGES, images)
        drawing_rows, drawn = run("drawings", DRAWINGS, drawings)
        photo_rows, photos = run("photos", PHOTOS, drawings)
        hard_rows, hard = run("hard", HARD, drawings)
        shape_rows, shapes = run("shapes", SHAPES, drawings)
        numbers = numbers_table(args.numbers, pool, **where)
    answers = drawn + photos + hard + shapes
    sure = [is_right for is_right, probability in answers if probability >= 0.99]
    parts = [
        f"The first {images:,} {args.split} images; evaluate.py reads {exact[0]:.2%} of them:",
        table(["MNIST's images as PNGs", *headings], image_rows),
        f"The first {drawings:,}, drawn again; evaluate.py reads {exact[1]:.2%} of the originals:",
        table(["Drawings on 400 x 400 pixels", *headings], drawing_rows),
        table(["Photos: pen of 12, height 180", "Dark on light"], photo_rows),
        table(["Hard ones: random pens and sizes", "Read"], hard_rows),
        f"The first {drawings:,} ones, sixes and nines, in unusual shapes:",
        table(["Shapes: random pens and sizes", "Read"], shape_rows),
        f"Numbers of random {args.split} images, drawn again, {args.numbers:,} of each kind:",
        numbers,
        f"Of the answers to all {len(answers):,} pictures drawn again, {len(sure) / len(answers):.1%} claim at "
        f"least 99%, and {sum(sure) / len(sure):.2%} of those are right.",
    ]
    text = "\n\n".join(parts)
    print(text)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
