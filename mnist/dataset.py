"""MNIST and data sets like it, as torchvision reads them, in three splits: training, validation and test images."""

import contextlib
import shutil
import socket
import sys
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import TensorDataset
from torchvision.datasets import MNIST
from torchvision.datasets.utils import calculate_md5, check_integrity, extract_archive

from common.command_line import UserError
from mnist.augmentation import to_float
from mnist.synthetic import SyntheticMNIST
from training.config import TrainConfig

DATASETS = {"mnist": MNIST, "synthetic": SyntheticMNIST}  # torchvision's others with MNIST's file format can be added

MD5 = {  # of the unpacked files of MNIST
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

MIRROR_TIMEOUT = 20  # seconds to wait for data


class DatasetNotFound(UserError):
    """A data set is not there and can't be downloaded."""


class Data(NamedTuple):
    """A data set whose splits hold images, (N, 28, 28) uint8 with 0 as background, and labels, (N,) int64."""

    train: TensorDataset
    validation: TensorDataset
    test: TensorDataset
    description: dict  # for run.json and the checkpoints: name, class names, MD5 of each file, images of each split
    warning: str  # a line about classes without training images, or ""


def choose_dataset(name: str, data_dir: Path) -> tuple[str, str]:
    """Make sure that a data set is there; return its name, and a warning if it is the synthetic one.

    "auto" is MNIST if it is available, else the synthetic one. Raises UserError for files that can't be used.
    """
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


def load_data(config: TrainConfig, data_dir: Path, device: torch.device | str = "cpu") -> Data:
    """Load a run's data set onto the device; download or draw it first if data_dir lacks it.

    This is where the validation images are split off: the last ones of the training images. Raises UserError.
    """
    folder = fetch(config.dataset, data_dir)
    if config.dataset == "mnist":
        check_mnist(folder)
    dataset = find_dataset(config.dataset, data_dir)
    try:
        parts = [dataset(data_dir, train=is_train) for is_train in (True, False)]
        whole, test = (TensorDataset(part.data, part.targets) for part in parts)
    except (AssertionError, RuntimeError, TypeError, ValueError, KeyError) as error:  # a damaged file
        raise UserError(f"{folder} is damaged ({error}): delete it, and download or make it again") from error
    classes, highest = class_names(dataset, folder), max(int(split.tensors[1].max()) for split in (whole, test))
    if highest >= len(classes):
        raise UserError(f"{folder} has labels up to {highest}, counted from 0, but {len(classes)} class names")
    cut = len(whole) - config.validation_size
    if cut < 1:
        raise UserError(f"--validation-size {config.validation_size} leaves none of {len(whole)} images to train on")
    train, validation, test = (
        TensorDataset(*(tensor.to(device) for tensor in tensors)) for tensors in (whole[:cut], whole[cut:], test[:])
    )
    images = {"train": len(train), "validation": len(validation), "test": len(test)}
    md5 = {file: calculate_md5(folder / file) for file in MD5}
    seen = set(train.tensors[1].tolist())
    missing = ", ".join(name for label, name in enumerate(classes) if label not in seen)
    warning = f"warning: none of the {len(train):,} training images is of class {missing}\n" if missing else ""
    description = {"name": config.dataset, "classes": classes, "md5": md5, "images": images}
    return Data(train, validation, test, description, warning)


def find_dataset(name: str, data_dir: Path) -> type[MNIST]:
    """Return the class that reads a data set: torchvision's, or one for the user's own images. Raises UserError."""
    if name in DATASETS:
        return DATASETS[name]
    if (data_dir / name / "raw" / "classes.txt").exists():
        return type(name, (MNIST,), {"resources": []})  # torchvision's folder has the name of the class
    advice = f"choose --dataset auto, {' or '.join(DATASETS)}, or make it as docs/own-data.md shows"
    raise UserError(f"there is no data set {name} in {data_dir.resolve()}: {advice}")


def class_names(dataset: type[MNIST], folder: Path) -> list[str]:
    """Return the names of a data set's classes; those of MNIST are 0 to 9, while torchvision says "7 - seven"."""
    if (folder / "classes.txt").exists():
        return (folder / "classes.txt").read_text(encoding="utf-8").splitlines()
    return list("0123456789") if dataset.classes is MNIST.classes else list(dataset.classes)


def check_classes(model: nn.Module, data: Data, trained_on: dict) -> None:
    """Raise UserError unless a network has an output for each class of the data, and has learned the same ones.

    trained_on is the description of the data set in its checkpoint, or {}. The network is put into evaluation mode.
    """
    name, classes = data.description["name"], data.description["classes"]
    with torch.inference_mode():
        outputs = model.eval()(to_float(data.test.tensors[0][:1])).shape[1]
    if outputs != len(classes):
        what = f"the network has {outputs} outputs, but {name} has {len(classes)} classes"
        raise UserError(f"{what}: change the last layer in model.py, or choose another --dataset")
    if (learned := trained_on.get("classes", classes)) != classes:
        raise UserError(f"the network has learned the classes {', '.join(learned)}; {name} has {', '.join(classes)}")


def check_mnist(folder: Path) -> None:
    """Raise UserError if a file in the folder has the name of one of MNIST's, but not its exact content."""
    wrong = [file for file in MD5 if (folder / file).exists() and not check_integrity(folder / file, MD5[file])]
    if wrong:
        what = "damaged, or from another data set (wrong MD5); delete each, and the next run downloads it again"
        raise UserError(f"{', '.join(wrong)} in {folder}: {what}")


def fetch(name: str, data_dir: Path) -> Path:
    """Make sure that the four files of a data set are in torchvision's folder for them, and return that folder.

    Missing files are unpacked from archives in that folder or downloaded by torchvision, first into a temporary folder.
    Raises DatasetNotFound if that fails, UserError if files are there but unusable.
    """
    dataset = find_dataset(name, data_dir)
    folder = (data_dir / dataset.__name__ / "raw").resolve()
    if all((folder / file).exists() for file in MD5):
        return folder
    if any(folder.glob("*.idx?-ubyte")):  # as 7-Zip and Kaggle name them
        raise UserError(f"the files in {folder} have a dot before idx: rename them to {', '.join(MD5)}")
    if not dataset.resources:
        what = f"one of {', '.join(MD5)} is missing from {folder}"
        raise UserError(f"{what}: make the data set again, as docs/own-data.md shows")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = TemporaryDirectory(dir=folder)
    except OSError as error:
        advice = "make it writable, put the four unpacked files there yourself, or choose another --data-dir"
        raise UserError(f"can't write {folder} ({error.strerror}): {advice}") from error
    timeout_before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(MIRROR_TIMEOUT)  # torchvision sets no limit
    damaged = []
    try:
        with temporary as incoming:
            raw = Path(incoming, dataset.__name__, "raw")
            raw.mkdir(parents=True)
            for file, md5 in MD5.items():
                archive = folder / f"{file}.gz"
                if (folder / file).exists():
                    shutil.copy(folder / file, raw)
                elif archive.exists() and not unpack(archive, raw, md5 if name == "mnist" else None):
                    damaged.append(archive.name)
            if name != "synthetic" and len(list(raw.iterdir())) < len(MD5):
                print(f"Downloading {name} (each mirror gets {MIRROR_TIMEOUT} s to answer)", file=sys.stderr)
            dataset(incoming, download=True)  # does nothing if the four files are there
            for file in MD5:
                (raw / file).replace(folder / file)
        return folder
    except Exception as error:  # torchvision's and urllib's are of many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]  # with several mirrors, the last one's
        if damaged:
            what = f"incomplete, or not an archive of {name}'s files; delete each"
            raise UserError(f"{', '.join(damaged)} in {folder}: {what} ({reason})") from error
        if name == "mnist":
            check_mnist(folder)
        if name == "synthetic":
            raise UserError(f"can't write {folder} ({reason}): choose another --data-dir") from error
        files = f"its four files ({', '.join(MD5)}, or these with .gz)"
        raise DatasetNotFound(f"can't get the data set {name} ({reason}): put {files} into {folder}") from error
    finally:
        socket.setdefaulttimeout(timeout_before)


def unpack(archive: Path, folder: Path, md5: str | None) -> bool:
    """Unpack a .gz file into a folder; return whether it is whole, and its content has that MD5, if one is given."""
    file = folder / archive.stem
    with contextlib.suppress(OSError, EOFError, zlib.error):  # the archive is damaged
        extract_archive(str(archive), str(folder))
        if check_integrity(file, md5):
            return True
    file.unlink(missing_ok=True)
    return False
