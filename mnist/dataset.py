"""MNIST as three splits of tensors: training, validation and test images, checked byte for byte."""

import contextlib
import gzip
import hashlib
import math
import shutil
import socket
import tempfile
import zlib
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.command_line import UserError
from common.files import only_one, write_atomically
from training.distributed import share

FOLDERS = {"mnist": "MNIST", "synthetic": "SyntheticMNIST"}  # torchvision names the folder after the class

MIRROR_TIMEOUT_SECONDS = 20  # without a byte

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
    folder = Path(data_dir) / FOLDERS[name] / "raw"
    if not all((folder / file).is_file() for file in MD5):
        fetch(name, Path(data_dir))
    contents, checksums = {}, {}
    for file, md5 in MD5.items():
        try:
            contents[file] = np.fromfile(folder / file, dtype=np.uint8)
        except OSError as error:
            raise UserError(f"can't read {folder / file}: {error.strerror}") from error
        checksums[file] = hashlib.md5(contents[file], usedforsecurity=False).hexdigest()
        if name == "mnist" and checksums[file] != md5:
            raise UserError(f"{folder / file} is damaged (wrong MD5): delete it, and the next run downloads it again")
    try:
        training, test = (
            parse_split(contents[f"{part}-images-idx3-ubyte"], contents[f"{part}-labels-idx1-ubyte"])
            for part in ("train", "t10k")
        )
    except ValueError as error:
        raise UserError(f"{folder} is damaged ({error}): delete it, and the next run makes it again") from error
    cut = len(training.labels) - validation_size
    if cut < 1:
        raise UserError(f"--validation-size {validation_size} leaves none of {len(training.labels)} images to train on")
    train, validation = Split(*(t[:cut] for t in training)), Split(*(t[cut:] for t in training))
    return Data(name, train.to(device), validation.to(device), test.to(device), checksums)


def parse_split(images_file: np.ndarray, labels_file: np.ndarray) -> Split:
    """Turn the bytes of a file of images and one of labels into a split. Raises ValueError where they are damaged."""
    images, labels = parse_idx(images_file, dimensions=3), parse_idx(labels_file, dimensions=1)
    if not len(labels) or images.shape != (len(labels), 28, 28):
        raise ValueError(f"{len(labels)} labels for images of shape {list(images.shape)}")
    if labels.max() > 9:
        raise ValueError(f"a label of {labels.max()}")
    return Split(torch.from_numpy(images), torch.from_numpy(labels).long())


def parse_idx(content: np.ndarray, dimensions: int) -> np.ndarray:
    """Return the bytes of an IDX file in their shape; they stay where they are in memory. Raises ValueError.

    The format: magic number, size of each dimension (32 bits each, big-endian), bytes. http://yann.lecun.com/exdb/mnist/
    """
    start = 4 * (1 + dimensions)
    magic, *shape = content[:start].view(">i4").tolist() if len(content) >= start else [0]
    if magic != 0x800 + dimensions or len(content) != start + math.prod(shape):
        raise ValueError(f"{len(content)} bytes that are no IDX file of {dimensions} dimensions")
    return content[start:].reshape(shape)


def fetch(name: str, data_dir: Path) -> None:
    """Unpack the archives that lie in the folder of a data set; if files are missing still, download or draw them.

    They are made beside their place and moved there once all four are whole. A second process waits for the first.
    Raises UserError when that fails.
    """
    folder = data_dir / FOLDERS[name] / "raw"
    try:
        with only_one(folder, timeout=600), time_limit(MIRROR_TIMEOUT_SECONDS):
            for file in MD5:
                archive = folder / f"{file}.gz"
                if archive.is_file() and not (folder / file).is_file():
                    write_atomically(folder / file, gzip.decompress(archive.read_bytes()))
            if all((folder / file).is_file() for file in MD5):
                return

            # Only here, since torchvision imports PyTorch's compiler, which takes longer than all the rest.
            if name == "mnist":
                from torchvision.datasets import MNIST as dataset_class
            else:
                from mnist.synthetic import SyntheticMNIST as dataset_class

            for killed in folder.glob("incoming-*"):  # what a download left that was killed
                shutil.rmtree(killed)
            with tempfile.TemporaryDirectory(dir=folder, prefix="incoming-") as incoming:
                dataset_class(incoming, download=True)
                for file in MD5:
                    (Path(incoming) / FOLDERS[name] / "raw" / file).replace(folder / file)
    except (OSError, EOFError, RuntimeError, HTTPException, zlib.error) as error:
        ways_on = "choose another --data-dir"
        if name == "mnist":
            ways_on = (
                f"put its four files there ({', '.join(MD5)}; unpacked or .gz), "
                "or train on digits drawn from fonts with train.py --dataset synthetic"
            )
        raise UserError(f"can't get the data set {name} into {folder} ({error}): {ways_on}") from error


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Give up on every connection from which nothing comes for that long; torchvision sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def to_float(images: Tensor) -> Tensor:
    """Turn images, (B, 28, 28) uint8, into what the network takes: (B, 1, 28, 28) floats in [0, 1]."""
    return images.unsqueeze(1).float().div_(255)


def batches(split: Split, batch_size: int, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of images, (B, 28, 28) uint8, and labels, (B,), once through the split; the last may be smaller.

    Each batch is one indexing operation, on the device that holds the data. order is a permutation of the indices,
    (N,) int64, and each of several processes gets its share of every batch. Without one the images come in the order
    of the files.
    """
    if order is None:
        yield from zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True)
        return
    for indices in map(share, order.split(batch_size)):
        yield split.images[indices], split.labels[indices]
