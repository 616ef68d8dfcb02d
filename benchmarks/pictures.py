"""Measure how well predict.py reads pictures: MNIST's images as files, their digits redrawn with pens, and photos.

    python benchmarks/pictures.py [--data-dir data] [--output results/pictures.md]

All pictures are made from the test images; the photos are simulated. To redraw a digit, its skeleton (T. Y. Zhang and
C. Y. Suen, Communications of the ACM 27(3), 1984) is traced with a round pen. The weights are those of the reference
run. Needs requirements-benchmarks.txt; takes about a quarter of an hour on two CPU cores.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.random import Generator  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402
from scipy import ndimage  # noqa: E402
from torch.utils.data import TensorDataset  # noqa: E402

from benchmarks.markdown import table  # noqa: E402
from common.command_line import UserError  # noqa: E402
from evaluate import evaluate  # noqa: E402
from mnist.dataset import load_data  # noqa: E402
from model import DigitCNN  # noqa: E402
from own_digits.reader import REFERENCE_WEIGHTS, read_digit  # noqa: E402
from training.checkpoint import load_weights  # noqa: E402

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
    y, x = np.mgrid[: len(ink), : len(ink)]
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


def half_dark(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the light at (x, y) when a sharp shadow lies on the left."""
    return np.where(x + 0.3 * y > 0.6, 1, 0.5)


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
}


def ink_of(group: str, name: str, image: np.ndarray, index: int) -> np.ndarray:
    """Return a picture of this group and kind, made from an image, (28, 28) uint8: darkness, (H, W) in [0, 1]."""
    random = np.random.default_rng(index)
    if group == "photos":
        return 1 - PHOTOS[name](PAPER(image, random)).clip(0, 1)
    return (IMAGES if group == "images" else DRAWINGS)[name](image, random)


def picture_file(ink: np.ndarray, is_dark: bool, file_format: str) -> io.BytesIO:
    """Return a picture file in a format of Pillow's, with the ink dark on light or light on dark."""
    file = io.BytesIO()
    Image.fromarray(np.round(255 * (1 - ink if is_dark else ink)).astype(np.uint8)).save(file, file_format)
    return file


@cache
def images_of(split: str, data_dir: Path) -> TensorDataset:
    return getattr(load_data("mnist", data_dir), split)


@cache
def model():
    torch.set_num_threads(1)
    network = DigitCNN().eval()
    load_weights(REFERENCE_WEIGHTS, network)
    return network


def count_correct(job: tuple[str, str, bool, range], split: str, data_dir: Path) -> int:
    """Return how many of the pictures of a job are read correctly."""
    group, name, is_dark, indices = job
    images, correct = images_of(split, data_dir), 0
    for index in indices:
        ink = ink_of(group, name, images.tensors[0][index].numpy(), index)
        try:
            answer = read_digit(model(), picture_file(ink, is_dark, "jpeg" if group == "photos" else "png"))
        except UserError:
            continue  # an error counts as a misread digit
        correct += answer.digits[0] == images.tensors[1][index]
    return correct


def measure(group: str, kinds: dict, count: int, pool: ProcessPoolExecutor, split: str, data_dir: Path) -> list:
    """Return a row of accuracies for each kind of picture: dark on light and, except for photos, light on dark."""
    work, rows = partial(count_correct, split=split, data_dir=data_dir), []
    for name in kinds:
        row = [name]
        for is_dark in (True, False)[: 1 if group == "photos" else 2]:
            jobs = [(group, name, is_dark, range(start, min(start + 100, count))) for start in range(0, count, 100)]
            row.append(f"{sum(pool.map(work, jobs)) / count:.2%}")
        rows.append(row)
        print(*row, sep="\t", file=sys.stderr)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, default=REPOSITORY / "data", help="the folder with MNIST (default: data)"
    )
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    parser.add_argument("--split", choices=["test", "validation"], default="test", help="whose images (default: test)")
    parser.add_argument(
        "--images", type=int, default=5_000, help="how many images are saved as they are (default: 5,000)"
    )
    parser.add_argument("--drawings", type=int, default=300, help="how many are redrawn (default: 300)")
    args = parser.parse_args()
    split = images_of(args.split, args.data_dir)
    images, drawings = (min(count, len(split)) for count in (args.images, args.drawings))
    exact = [evaluate(model(), TensorDataset(*split[:count])).accuracy for count in (images, drawings)]
    headings = ["Dark on light", "Light on dark"]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        run = partial(measure, pool=pool, split=args.split, data_dir=args.data_dir)
        text = "\n\n".join(
            [
                f"The first {images:,} {args.split} images; evaluate.py reads {exact[0]:.2%} of them:",
                table(["MNIST's images as PNGs", *headings], run("images", IMAGES, images)),
                f"The first {drawings:,}, drawn again; evaluate.py reads {exact[1]:.2%} of the originals:",
                table(["Drawings on 400 x 400 pixels", *headings], run("drawings", DRAWINGS, drawings)),
                table(["Photos: pen of 12, height 180", "Dark on light"], run("photos", PHOTOS, drawings)),
            ]
        )
    print(text)
    if args.output:
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
