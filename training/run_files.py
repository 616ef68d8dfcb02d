"""Checkpoints, dicts of tensors and plain Python values, and what describes a run."""

import importlib.metadata
import io
import platform
import subprocess
import zipfile
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from common.command_line import UserError
from training.config import TrainConfig, config_from
from training.distributed import world_size


def serialize(value: dict) -> bytes:
    """Return what torch.save writes, as bytes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def load_checkpoint(path: Path) -> dict:
    """Read a file of torch.save onto the CPU; nothing in it is executed. Raises UserError if it can't be used."""
    if not path.exists():
        raise UserError(f"there is no {path}: train first (python train.py), or name another file")
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            # torch.load doesn't compare the checksums; torch.save never compresses, as the maker of a ZIP bomb does.
            if file.testzip() or any(entry.compress_type for entry in file.infolist()):
                raise zipfile.BadZipFile("its checksums are wrong, or it is compressed")
        return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged or foreign file can make the unpickler raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0][:100]
        raise UserError(f"{path} is damaged, or holds more than a dict of tensors and values ({reason})") from error


def find_run(folder: Path, settings: dict, is_resumed: bool) -> tuple[dict | None, dict]:
    """Return checkpoint and settings of the run to resume; of a new run, None and the settings as given.

    A resumed run may have more epochs where nothing depends on their number. Raises UserError for other changes.
    """
    path = folder / "last.pt"
    if not is_resumed or not path.exists():
        return None, settings
    checkpoint = load_checkpoint(path)
    saved = asdict(config_from(checkpoint.get("config"), path))
    changed = [f"{name} is {saved[name]}, not {value}" for name, value in settings.items() if value != saved[name]]
    if len(changed) == 1 and settings.get("epochs", 0) > saved["epochs"]:
        if saved["schedule"] == "constant" and not saved["augment"]:
            return checkpoint, {**saved, **settings}
        changed.append("the learning rate or the augmentation of every epoch depends on their number")
    if changed:
        advice = "leave them out, or start a new run without --resume"
        raise UserError(f"can't resume with other settings ({'; '.join(changed)}): {advice}")
    return checkpoint, saved


def load_weights(path: Path, model: nn.Module) -> dict:
    """Load the averaged weights of a checkpoint into a network, and return the checkpoint.

    The file may also hold a state_dict of the network alone; then what is returned is empty. Raises UserError.
    """
    checkpoint = load_checkpoint(path)
    weights = checkpoint.get("averaged_model", checkpoint)
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path} is not of the network in model.py ({reason})") from error
    return {} if weights is checkpoint else checkpoint


def describe_run(config: TrainConfig, dataset: dict, device: torch.device, init: Path | None) -> dict:
    """Return the content of run.json: all that the numbers of a run may depend on."""
    packages = {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy")}
    try:
        git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
        commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()  # "" outside a repository
    except OSError:  # no git on this machine
        commit = ""
    return {
        "config": asdict(config),
        "init": str(init) if init else None,  # the file of the first weights
        "dataset": dataset,
        "device": str(device),
        "processes": world_size(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **packages, "git_commit": commit},
        "seconds": 0.0,  # of all epochs, with their evaluations and saving
    }
