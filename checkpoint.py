"""Saving and loading a checkpoint: one dict of tensors and plain Python values, whole or not at all."""

import importlib.metadata
import io
import platform
import subprocess
from pathlib import Path

import numpy as np
import torch

from command_line import UserError
from model import DigitCNN

KEYS = {"config", "dataset", "epoch", "model", "averaged_model", "optimizer", "history", "versions"}


def serialize(checkpoint: dict) -> bytes:
    """Return the content of a checkpoint file."""
    assert set(checkpoint) == KEYS
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def load_checkpoint(path: Path) -> dict:
    """Read a checkpoint onto the CPU; nothing in the file is executed. Raises UserError if it can't be used."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}: train first (python train.py)") from error
    except OSError as error:
        raise UserError(f"can't read the checkpoint {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged or foreign file can make the unpickler raise anything
        raise UserError(f"{path} is no checkpoint of train.py, or damaged ({type(error).__name__})") from error
    if not isinstance(checkpoint, dict) or set(checkpoint) != KEYS:
        raise UserError(f"{path} is no checkpoint of this version of train.py")
    return checkpoint


def load_model(checkpoint: dict, device: torch.device) -> DigitCNN:
    """Return the network of a checkpoint with its averaged weights, on the device. Raises UserError."""
    model = DigitCNN()
    prefix = "module."  # AveragedModel's name for the network that it wraps
    weights = {name.removeprefix(prefix): w for name, w in checkpoint["averaged_model"].items() if prefix in name}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError("the checkpoint is of another network") from error
    return model.to(device).eval()


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
