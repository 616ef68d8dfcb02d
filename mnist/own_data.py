"""Make a data set of your own images; docs/own-data.md shows how to use this."""

import re
from pathlib import Path

import numpy as np

from common.command_line import UserError
from common.files import write_atomically
from mnist.dataset import DATASETS
from mnist.synthetic import idx_file


def save_dataset(data_dir: Path, name: str, images: np.ndarray, labels: list[int], classes: list[str]) -> None:
    """Write images in MNIST's format, for `train.py --dataset NAME`, in random order; every sixth is a test image.

    images are (N, 28, 28) uint8 with light ink on a background of 0; labels count the classes from 0. Raises UserError.
    """
    folder, images, numbers = data_dir / name / "raw", np.asarray(images), np.asarray(labels)
    others = {"auto", *DATASETS, *(dataset.__name__.lower() for dataset in DATASETS.values())}
    if name.lower() in others or (folder.exists() and not (folder / "classes.txt").exists()):
        raise UserError(f"{name} is already the name of another data set: choose a different name")
    if (
        not re.fullmatch(r"[\w-]+", name)
        or "\n".join(classes).splitlines() != classes
        or len({*classes}) < len(classes)
    ):
        rule = "the data set's name may have only letters, digits, - and _; class names must be distinct, one line each"
        raise UserError(f"{rule}: {name!r}, {classes}")
    if images.dtype != np.uint8 or images.shape != (*numbers.shape, 28, 28) or numbers.dtype.kind not in "iu":
        what = f"{images.shape} {images.dtype} and {numbers.shape} {numbers.dtype}"
        raise UserError(f"images must be (N, 28, 28) uint8 and labels N whole numbers, not {what}")
    if not 0 <= numbers.min() <= numbers.max() < len(classes) <= 256:
        raise UserError(f"{len(classes)} classes (256 at most), but labels from {numbers.min()} to {numbers.max()}")
    order = np.random.default_rng(0).permutation(len(labels))
    is_test = np.arange(len(labels)) % 6 == 5
    for part, chosen in [("train", order[~is_test]), ("t10k", order[is_test])]:
        write_atomically(folder / f"{part}-images-idx3-ubyte", idx_file(images[chosen]))
        write_atomically(folder / f"{part}-labels-idx1-ubyte", idx_file(numbers[chosen]))
    write_atomically(folder / "classes.txt", "\n".join(classes))
