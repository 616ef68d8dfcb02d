"""The files of a run: its checkpoints, dicts of tensors and plain Python values, and run.json, how it was made."""

import hashlib
import importlib.metadata
import io
import json
import platform
import subprocess
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from common.command_line import UserError
from mnist.dataset import Data
from model import DigitCNN
from optimizer import AdamW
from training.config import TrainConfig, check_resumable, config_from, read_recipe
from training.distributed import processes
from training.metrics import metrics_from

KEYS = {"epoch", "config", "dataset", "model", "averaged_model", "optimizer", "scheduler", "history", "versions"}
MAX_BYTES = 10_000_000  # of a checkpoint, whose parts take half a megabyte: a file may claim to unpack to far more
DIGEST_BYTES = 32  # of SHA-256


def serialize(checkpoint: dict) -> bytes:
    """Return the content of a checkpoint's file, or one of weights: what torch.save writes, a ZIP archive, sealed.

    The seal is its SHA-256, as comment. torch.load ignores the comment; it doesn't compare the checksums of ZIP either,
    and they don't cover all bytes.
    """
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return seal(buffer.getvalue())


def seal(archive: bytes) -> bytes:
    """Return a ZIP archive, which ends with the length of its comment, 0, with the SHA-256 of all before as comment."""
    archive = archive[:-2] + DIGEST_BYTES.to_bytes(2, "little")
    return archive + hashlib.sha256(archive).digest()


def load_checkpoint(path: Path) -> dict:
    """Read a checkpoint onto the CPU; nothing in the file is executed. Raises UserError if it can't be used."""
    return load(path, check)


def load(path: Path, check: Callable[[dict], object]) -> dict:
    """Read what serialize wrote, and have it checked. Raises UserError if it can't be used."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the line that refuses a damaged file says enough
            value = deserialize(content)
            check(value)
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}: train first (python train.py)") from error
    except OSError as error:
        raise UserError(f"can't read the checkpoint {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged or foreign file can make the unpickler raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is no checkpoint of this version of train.py, or damaged ({reason[:100]})") from error
    return value


def deserialize(content: bytes) -> dict:
    """Return the dict that serialize turned into these bytes. Raises whatever other bytes give cause for."""
    if len(content) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES:,} bytes")
    if content != seal(content[:-DIGEST_BYTES]):
        raise ValueError("wrong checksum")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise ValueError(f"unpacks to more than {MAX_BYTES:,} bytes")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def check(checkpoint: dict) -> None:
    """Raise whatever is wrong with the entries of a checkpoint."""
    if set(checkpoint) != KEYS:
        raise ValueError("its entries are not those of this version")
    config_from(checkpoint["config"])
    json.dumps(checkpoint["dataset"])  # it has plain values only
    if [metrics_from(epoch).epoch for epoch in checkpoint["history"]][-1] != checkpoint["epoch"]:
        raise ValueError("its history ends at another epoch")
    for weights in ("averaged_model", "model"):
        (model := DigitCNN()).load_state_dict(checkpoint[weights])
    AdamW(model.parameters()).load_state_dict(checkpoint["optimizer"])


def load_weights(path: Path) -> DigitCNN:
    """Return the network whose weights alone were serialized, on the CPU, for evaluation. Raises UserError."""
    model = DigitCNN()
    load(path, model.load_state_dict)
    return model.eval()


def load_model(checkpoint: dict, device: torch.device) -> DigitCNN:
    """Return the network of a checkpoint with its averaged weights, on the device, for evaluation."""
    model = DigitCNN()
    model.load_state_dict(checkpoint["averaged_model"])
    return model.to(device).eval()


def find_run(folder: Path, settings: dict) -> tuple[dict | None, dict]:
    """Return the checkpoint of the run to resume, None if it has none yet, and the settings of that run.

    Before its first checkpoint a run has its settings in run.json. Raises UserError where others were given.
    """
    checkpoint, saved = None, settings
    if (folder / "last.pt").exists():
        checkpoint = load_checkpoint(folder / "last.pt")
        saved = checkpoint["config"]
        if not (folder / "best.pt").exists():
            raise UserError(f"can't resume: {folder / 'best.pt'} is gone; start a new run without --resume")
    elif (folder / "run.json").exists():
        saved = asdict(read_recipe(folder))
    check_resumable(saved, settings)
    return checkpoint, saved


def describe_run(config: TrainConfig, data: Data, device: torch.device) -> dict:
    """Return the content of run.json: all that the numbers of a run may depend on."""
    images = {name: len(getattr(data, name).labels) for name in ("train", "validation", "test")}
    return {
        "config": asdict(config),
        "dataset": {"name": data.name, "md5": data.checksums, "images": images},
        "device": str(device),
        "processes": processes(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "seconds": 0.0,  # of all epochs, with their evaluations and saving
    }


def versions() -> dict[str, str]:
    """Return the versions that a run's numbers may depend on, and the commit of this repository ("" outside git)."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    except OSError:  # no git on this machine
        commit = ""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": importlib.metadata.version("torchvision"),
        "numpy": np.__version__,
        "git_commit": commit,
    }
