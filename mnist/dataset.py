"""MNIST, as torchvision downloads and parses it, in three splits: training, validation and test images."""

import gzip
import hashlib
import socket
import sys
import tempfile
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import TensorDataset
from torchvision.datasets import MNIST

from common.command_line import UserError
from common.files import write_atomically
from mnist.synthetic import SyntheticMNIST

DATASETS = {"mnist": MNIST, "synthetic": SyntheticMNIST}  # others of torchvision with MNIST's files may be added

MD5 = {  # of the unpacked files of MNIST
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

MIRROR_TIMEOUT_SECONDS = 20  # without a byte


class DatasetNotFound(UserError):
    """A data set is not there and can't be downloaded."""


class Data(NamedTuple):
    """A data set whose splits hold images, (N, 28, 28) uint8 with 0 as background, and labels, (N,) int64."""

    name: str
    train: TensorDataset
    validation: TensorDataset
    test: TensorDataset
    checksums: dict[str, str]  # the MD5 of each of the four files

    def describe(self) -> dict:
        """Return what run.json and the checkpoints say of a data set."""
        images = {split: len(getattr(self, split)) for split in ("train", "validation", "test")}
        return {"name": self.name, "md5": self.checksums, "images": images}


def choose_dataset(name: str, data_dir: Path) -> tuple[str, str]:
    """Make sure that a data set is there; return its name, and a line of warning where it is the synthetic one.

    "auto" is MNIST; where its files are not there and can't be downloaded, it is the synthetic data set. Raises
    UserError when files of MNIST are there and can't be used: they are never replaced by something else.
    """
    if name not in ("auto", *DATASETS):
        raise UserError(f"--dataset {name} is unknown: choose one of auto, {', '.join(DATASETS)}")
    reason = ""
    if name == "auto":
        try:
            fetch("mnist", data_dir)
            return "mnist", ""
        except DatasetNotFound as error:
            name, reason = "synthetic", f"{error}. "
    fetch(name, data_dir)
    what = "This run trains on synthetic digits, drawn from fonts and far easier than handwriting"
    warning = f"warning: {reason}{what}: its numbers say nothing about MNIST\n"
    return name, warning if name == "synthetic" else ""


def load_data(name: str, data_dir: Path, validation_size: int = 5000, device: torch.device | str = "cpu") -> Data:
    """Load a data set onto the device; download it, or draw the synthetic one, where data_dir does not have it.

    The last validation_size training images are the validation split, whatever the seed of a run.
    Raises UserError when the files can't be had, are damaged, or have too few images for the validation split.
    """
    fetch(name, data_dir)
    folder = raw_folder(name, data_dir)
    try:
        checksums = {file: md5((folder / file).read_bytes()) for file in MD5}
        if name == "mnist":
            check_mnist(folder, checksums)
        halves = (DATASETS[name](data_dir, train=is_train) for is_train in (True, False))
        whole, test = (TensorDataset(half.data.to(device), half.targets.to(device)) for half in halves)
    except OSError as error:
        raise UserError(f"can't read {folder}: {error.strerror}") from error
    except (AssertionError, RuntimeError, TypeError, ValueError, KeyError) as error:  # torchvision's, of a damaged file
        raise UserError(f"{folder} is damaged ({error}): delete it, and the next run makes it again") from error
    cut = len(whole) - validation_size
    if cut < 1:
        raise UserError(f"--validation-size {validation_size} leaves none of {len(whole)} images to train on")
    return Data(name, TensorDataset(*whole[:cut]), TensorDataset(*whole[cut:]), test, checksums)


def raw_folder(name: str, data_dir: Path) -> Path:
    """Return where torchvision keeps the files of a data set."""
    return data_dir / DATASETS[name].__name__ / "raw"


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def check_mnist(folder: Path, checksums: dict[str, str]) -> None:
    """Raise UserError unless the files that have these checksums are MNIST's, bit for bit."""
    wrong = [file for file, checksum in checksums.items() if checksum != MD5[file]]
    if len(wrong) == len(MD5) and all((folder / file).read_bytes()[:3] == b"\0\0\x08" for file in wrong):
        raise UserError(  # whole files in MNIST's format
            f"the files in {folder} are those of another data set, not MNIST's (FashionMNIST and KMNIST have the same "
            "names): move them to a folder of their own"
        )
    if wrong:
        raise UserError(
            f"{', '.join(wrong)} in {folder}: damaged (wrong MD5); delete that, and the next run downloads it again"
        )


def fetch(name: str, data_dir: Path) -> None:
    """Make sure that the four files of a data set are there: unpack their archives, or else download or draw them.

    New files are made beside their place and moved there once all four are whole.
    Raises DatasetNotFound when the files are not there and can't be made, UserError when some are there but unusable.
    """
    folder = raw_folder(name, data_dir)
    if has_files(folder):
        return
    misnamed = [file for file in MD5 if (folder / file.replace("-idx", ".idx")).is_file()]  # by 7-Zip, by Kaggle
    if misnamed:
        found = [file.replace("-idx", ".idx") for file in misnamed]
        raise UserError(f"rename the files in {folder}: {', '.join(found)} to {', '.join(misnamed)}")
    damaged, timeout_before = [], socket.getdefaulttimeout()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        damaged = unpack(name, folder)
        if has_files(folder):
            return
        if name != "synthetic":
            wait = f"a mirror that doesn't answer is given up after {MIRROR_TIMEOUT_SECONDS} seconds"
            print(f"Downloading {name} to {folder}; {wait}", file=sys.stderr, flush=True)
        socket.setdefaulttimeout(MIRROR_TIMEOUT_SECONDS)  # torchvision sets no limit
        with tempfile.TemporaryDirectory(dir=folder) as incoming:
            DATASETS[name](incoming, download=True)
            for file in MD5:
                (raw_folder(name, Path(incoming)) / file).replace(folder / file)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]  # of several mirrors: the last one's
        if damaged:
            what = "cut, no gzip file, or of another data set"
            raise UserError(f"{', '.join(damaged)} in {folder}: {what}; delete that ({reason})") from error
        if name == "mnist":
            check_mnist(folder, {file: md5((folder / file).read_bytes()) for file in MD5 if (folder / file).is_file()})
        if name == "synthetic":
            raise UserError(f"can't write {folder} ({reason}): choose another --data-dir") from error
        files = f"its four files ({', '.join(MD5)}; unpacked or .gz)"
        raise DatasetNotFound(f"can't get the data set {name} ({reason}): put {files} into {folder}") from error
    finally:
        socket.setdefaulttimeout(timeout_before)


def has_files(folder: Path) -> bool:
    return all((folder / file).is_file() for file in MD5)


def unpack(name: str, folder: Path) -> list[str]:
    """Unpack the archives in a data set's folder whose files are missing; return the names of damaged ones."""
    damaged = []
    for file in MD5:
        archive = folder / f"{file}.gz"
        if archive.is_file() and not (folder / file).is_file():
            try:
                content = gzip.decompress(archive.read_bytes())
            except (EOFError, zlib.error, gzip.BadGzipFile):
                content = b""
            if content and (name != "mnist" or md5(content) == MD5[file]):
                write_atomically(folder / file, content)
            else:
                damaged.append(archive.name)
    return damaged


def to_float(images: Tensor) -> Tensor:
    """Turn images, (B, 28, 28) uint8, into what the network takes: (B, 1, 28, 28) floats in [0, 1]."""
    return images.unsqueeze(1).float().div_(255)
