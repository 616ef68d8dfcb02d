"""MNIST as three splits of tensors: training, validation and test images, checked byte for byte."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.datasets import MNIST

from command_line import UserError
from synthetic import SyntheticMNIST

DATASETS = {"mnist": MNIST, "synthetic": SyntheticMNIST}

MD5 = {  # of the unpacked files of MNIST
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


class Split(NamedTuple):
    """Images of one split, (N, 28, 28) uint8 with 0 as background, and their labels, (N,) int64 from 0 to 9."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


class Data(NamedTuple):
    """A data set, whole. checksums holds the MD5 of each of its four files."""

    name: str
    train: Split
    validation: Split
    test: Split
    checksums: dict[str, str]


def load_data(
    name: str = "mnist",
    data_dir: Path = Path("data"),
    validation_size: int = 5000,
    device: torch.device | str = "cpu",
) -> Data:
    """Load a data set onto the device; download MNIST, or draw the synthetic one, where data_dir does not have it.

    The last validation_size training images are the validation split, whatever the seed of a run.
    Raises UserError when the files can't be had, are damaged, or have too few images for the validation split.
    """
    dataset_class = DATASETS[name]
    folder = Path(data_dir) / dataset_class.__name__ / "raw"
    missing = [file for file in MD5 if not (folder / file).is_file()]
    if missing:
        fetch(dataset_class, Path(data_dir))
    checksums = {}
    for file, md5 in MD5.items():
        try:
            checksums[file] = hashlib.md5((folder / file).read_bytes(), usedforsecurity=False).hexdigest()
        except OSError as error:
            raise UserError(f"can't read {folder / file}: {error.strerror}") from error
        if name == "mnist" and checksums[file] != md5:
            raise UserError(f"{folder / file} is damaged (wrong MD5): delete it, and the next run downloads it again")
    training, test = (read_split(dataset_class, Path(data_dir), train) for train in (True, False))
    cut = len(training.labels) - validation_size
    if cut < 1:
        raise UserError(f"--validation-size {validation_size} leaves none of {len(training.labels)} images to train on")
    train, validation = Split(*(t[:cut] for t in training)), Split(*(t[cut:] for t in training))
    return Data(name, train.to(device), validation.to(device), test.to(device), checksums)


def read_split(dataset_class: type[MNIST], data_dir: Path, train: bool) -> Split:
    """Read the training or the test images. Raises UserError when they are not what MNIST's files hold."""
    folder = data_dir / dataset_class.__name__ / "raw"
    try:
        dataset = dataset_class(data_dir, train=train)
        images, labels = dataset.data, dataset.targets
        assert len(labels) > 0, "no images"
        assert images.shape == (len(labels), 28, 28), f"{len(labels)} labels for images of shape {list(images.shape)}"
        assert labels.max() <= 9, f"a label of {labels.max()}"
    except (AssertionError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"{folder} is damaged ({error}): delete it, and the next run makes it again") from error
    return Split(images, labels)


def fetch(dataset_class: type[MNIST], data_dir: Path) -> None:
    """Download (or draw) a data set beside its place; move it there once all four files are whole.

    Raises UserError when that fails, with both ways on.
    """
    folder = data_dir / dataset_class.__name__ / "raw"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="incoming-") as incoming:
            raw = Path(incoming) / dataset_class.__name__ / "raw"
            raw.mkdir(parents=True)
            for archive in folder.glob("*.gz"):  # put there by hand, or by another program that uses torchvision
                shutil.copy(archive, raw)
            dataset_class(incoming, download=True)
            for file in MD5:
                (raw / file).replace(folder / file)
    except (OSError, EOFError, RuntimeError) as error:
        raise UserError(
            f"can't get the data set into {folder} ({error}): put the four files of MNIST there ({', '.join(MD5)}; "
            "unpacked or .gz), or train on digits drawn from fonts with --dataset synthetic"
        ) from error


def to_float(images: Tensor) -> Tensor:
    """Turn images, (B, 28, 28) uint8, into what the network takes: (B, 1, 28, 28) floats in [0, 1]."""
    return images.unsqueeze(1).float().div_(255)


def batches(split: Split, batch_size: int, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of images, (B, 28, 28) uint8, and labels, (B,), once through the split; the last may be smaller.

    Each batch is one indexing operation, on the device that holds the data. order is a permutation of the indices,
    (N,) int64; without one the images come in the order of the files.
    """
    if order is None:
        yield from zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True)
        return
    for indices in order.split(batch_size):
        yield split.images[indices], split.labels[indices]
