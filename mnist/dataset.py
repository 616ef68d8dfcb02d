"""MNIST, as torchvision downloads and parses it, in three splits: training, validation and test images."""

import socket
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch.utils.data import TensorDataset
from torchvision.datasets import MNIST
from torchvision.datasets.utils import calculate_md5, check_integrity

from common.command_line import UserError
from mnist.synthetic import SyntheticMNIST

DATASETS = {"mnist": MNIST, "synthetic": SyntheticMNIST}  # others of torchvision with MNIST's files may be added

MD5 = {  # of the unpacked files of MNIST
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

MIRROR_TIMEOUT = 20  # seconds without a byte


class DatasetNotFound(UserError):
    """A data set is not there and can't be downloaded."""


class Data(NamedTuple):
    """A data set whose splits hold images, (N, 28, 28) uint8 with 0 as background, and labels, (N,) int64."""

    train: TensorDataset
    validation: TensorDataset
    test: TensorDataset
    description: dict  # for run.json and the checkpoints: name, MD5 of each file, number of images of each split


def choose_dataset(name: str, data_dir: Path) -> tuple[str, str]:
    """Make sure that a data set is there; return its name, and a line of warning where it is the synthetic one.

    "auto" is MNIST if it is available, else the synthetic one. Raises UserError for files that can't be used.
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

    The last validation_size training images are the validation split; with 0 it is empty. Raises UserError.
    """
    folder = fetch(name, data_dir)
    if name == "mnist":
        check_mnist(folder)
    try:
        halves = [DATASETS[name](data_dir, train=is_train) for is_train in (True, False)]
        whole, test = (TensorDataset(half.data, half.targets) for half in halves)
    except (AssertionError, RuntimeError, TypeError, ValueError, KeyError) as error:  # torchvision's, of a damaged file
        raise UserError(f"{folder} is damaged ({error}): delete it, and the next run makes it again") from error
    cut = len(whole) - validation_size
    if cut < 1:
        raise UserError(f"--validation-size {validation_size} leaves none of {len(whole)} images to train on")
    train, validation, test = (
        TensorDataset(*(tensor.to(device) for tensor in tensors)) for tensors in (whole[:cut], whole[cut:], test[:])
    )
    images = {"train": len(train), "validation": len(validation), "test": len(test)}
    md5 = {file: calculate_md5(folder / file) for file in MD5}
    return Data(train, validation, test, {"name": name, "md5": md5, "images": images})


def check_mnist(folder: Path) -> None:
    """Raise UserError unless those files of MNIST that are in the folder are MNIST's, bit for bit."""
    wrong = [file for file in MD5 if (folder / file).exists() and not check_integrity(folder / file, MD5[file])]
    if wrong:
        what = "damaged, or of another data set (wrong MD5); delete that, and the next run downloads it again"
        raise UserError(f"{', '.join(wrong)} in {folder}: {what}")


def fetch(name: str, data_dir: Path) -> Path:
    """Make sure that the four files of a data set are in torchvision's folder for them, and return that folder.

    If they aren't, torchvision unpacks the archives that lie there, or downloads them, in a folder of its own.
    Raises DatasetNotFound where it can't, UserError where files are there but unusable.
    """
    dataset = DATASETS[name]
    folder = data_dir / dataset.__name__ / "raw"
    if all((folder / file).exists() for file in MD5):
        return folder
    if any(folder.glob("*.idx?-ubyte")):  # as 7-Zip and Kaggle name them
        raise UserError(f"the files in {folder} have a dot before idx: rename them to {', '.join(MD5)}")
    folder.mkdir(parents=True, exist_ok=True)
    if name != "synthetic":
        print(f"Downloading {name} (each mirror gets {MIRROR_TIMEOUT} s to answer)", file=sys.stderr)
    timeout_before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(MIRROR_TIMEOUT)  # torchvision sets no limit
    try:
        with TemporaryDirectory(dir=folder) as incoming:
            raw = Path(incoming, dataset.__name__, "raw")
            raw.mkdir(parents=True)
            for archive in folder.glob("*.gz"):
                (raw / archive.name).write_bytes(archive.read_bytes())  # torchvision takes it if its MD5 is right
            dataset(incoming, download=True)
            for file in MD5:
                (raw / file).replace(folder / file)
        return folder
    except Exception as error:  # torchvision's and urllib's are of many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]  # of several mirrors: the last one's
        md5 = dict(dataset.resources)  # of the archives
        if damaged := [file.name for file in folder.glob("*.gz") if not check_integrity(file, md5.get(file.name))]:
            what = f"cut, or not the archive of {name} that its mirrors have"
            raise UserError(f"{', '.join(damaged)} in {folder}: {what}; delete that ({reason})") from error
        if name == "mnist":
            check_mnist(folder)
        if name == "synthetic":
            raise UserError(f"can't write {folder} ({reason}): choose another --data-dir") from error
        files = f"its four files ({', '.join(MD5)}; all unpacked, or all .gz)"
        raise DatasetNotFound(f"can't get the data set {name} ({reason}): put {files} into {folder}") from error
    finally:
        socket.setdefaulttimeout(timeout_before)
