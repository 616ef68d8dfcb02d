"""Train the weights that predict.py and demo.py use where there is no run of one's own.

    python -m benchmarks.reading_weights [--data-dir data] [--output-dir results/reading]

Network and recipe are those of train.py, for 20 epochs, and the weights are the average at the end of the last one.
Besides MNIST's training images, the network learns from a drawing of each: the same digit traced with a round pen, thin
or thick, sometimes cut off a little, and many ones, sixes and nines in shapes of which MNIST has few (pictures.py). It
also learns what is no digit, from parts of photos of blank paper: printed lines, shadows, frames, edges of tables. Each
has a random label, so that the network finds no digit likelier than another there; this is outlier exposure
(https://arxiv.org/abs/1812.04606) with samples of the uniform distribution. So the training accuracy can't reach 100%.
Drawings and parts become 28x28 images as in predict.py. Validation and test images are MNIST's alone. Writes
weights.pt, metrics.csv and run.json. Needs the extra benchmarks; takes about ten minutes on two CPU cores.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.random import Generator
from torch.utils.data import TensorDataset

import train
from benchmarks import REPOSITORY
from benchmarks.pictures import (
    CANVAS,
    PHOTOS,
    SHAPES,
    images_of,
    in_border,
    out_of_focus,
    picture_file,
    redraw,
    reshape,
    with_strip,
)
from common.command_line import Parser, command, user_path
from common.files import read_json, write_atomically
from mnist.dataset import load_data
from own_digits.digit_image import normalize
from own_digits.ink import find_candidates
from own_digits.picture_file import read_picture
from training.config import TrainConfig
from training.metrics import metrics_csv
from training.run_files import load_checkpoint, serialize

HEIGHT, PAPER = 120, 200  # pixels: the longer side of a drawing without the pen's width, and of its paper
BLANK_PHOTOS = 2_000  # which give two or three parts each


def draw_again(image: np.ndarray, label: int, random: Generator) -> np.ndarray | None:
    """Return a drawing of the digit in an image of MNIST, both (28, 28) uint8; None if it is too thick to be one."""
    shapes = [shape for shape, digit in SHAPES.items() if digit == label]
    if shapes and random.random() < 0.6:
        image = reshape(image, random, random.choice(shapes))
    pen = HEIGHT * np.exp(random.uniform(np.log(0.02), np.log(0.3)))
    ink = redraw(image, random, HEIGHT, round(pen), PAPER)
    if random.random() < 0.3:
        turned = np.rot90(ink, random.integers(4))  # a view of the same pixels
        rows = np.flatnonzero(turned.max(axis=1) > 0.5)
        turned[: rows[0] + round(random.uniform(0, 0.1) * len(rows))] = 0
    return normalize(ink)


def drawing_of(index: int, data_dir: Path) -> np.ndarray | None:
    """Return the drawing of a training image, the same on every call."""
    image, label = images_of("train", data_dir)[index]
    return draw_again(image.numpy(), int(label), np.random.default_rng(index))


def parts_of_blank_photo(index: int) -> list[np.ndarray]:
    """Return what may be a digit in a photo of blank paper, (28, 28) uint8 each; no upright bars, which are ones."""
    random = np.random.default_rng(index)
    kinds = [*PHOTOS.values(), *(partial(make, random=random) for make in (with_strip, in_border, out_of_focus))]
    photo = kinds[random.integers(len(kinds))](np.zeros((CANVAS, CANVAS)))
    size = random.integers(200, CANVAS + 1)
    top, left = random.integers(CANVAS - size + 1, size=2)
    photo = np.rot90(photo[top : top + size, left : left + size], random.integers(4))
    images = []
    for part in find_candidates(read_picture(picture_file(photo, True, "png"))):
        height, width = part.box[2:] - part.box[:2]
        if width > height / 3 and (image := normalize(part.ink)) is not None:
            images.append(image)
    return images


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=user_path, default=REPOSITORY / "data", help="folder of MNIST (default: data)"
    )
    folder = REPOSITORY / "results" / "reading"
    parser.add_argument("--output-dir", type=user_path, default=folder, help="(default: results/reading)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    data = load_data(TrainConfig(), args.data_dir)
    images, labels = data.train.tensors
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        drawings = list(pool.map(partial(drawing_of, data_dir=args.data_dir), range(len(images)), chunksize=500))
        parts = list(chain.from_iterable(pool.map(parts_of_blank_photo, range(BLANK_PHOTOS), chunksize=50)))
    kept = [index for index, drawing in enumerate(drawings) if drawing is not None]
    images = torch.cat([images, torch.from_numpy(np.stack([drawings[index] for index in kept] + parts))])
    random_labels = torch.randint(10, (len(parts),), generator=torch.Generator().manual_seed(0))
    data = data._replace(train=TensorDataset(images, torch.cat([labels, labels[kept], random_labels])))

    config = TrainConfig(epochs=20, seed=2)  # of 0 to 2, the one that reads nothing on an empty sheet on a table
    with TemporaryDirectory() as folder:
        history = train.fit(config, data, Path(folder))
        checkpoint, run = load_checkpoint(Path(folder, "last.pt")), read_json(Path(folder, "run.json"))
    run |= {"drawings": len(kept), "parts_of_blank_photos": len(parts)}
    write_atomically(args.output_dir / "weights.pt", serialize(checkpoint["averaged_model"]))
    write_atomically(args.output_dir / "metrics.csv", metrics_csv(history))
    write_atomically(args.output_dir / "run.json", json.dumps(run, indent=2) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
