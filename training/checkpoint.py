"""Checkpoints, dicts of tensors and plain Python values, and what describes a run."""

import importlib.metadata
import io
import pickle
import platform
import subprocess
import zipfile
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from common.command_line import UserError
from common.files import archive, read_json, write_json
from training.config import TrainConfig, config_from, resumed_config
from training.distributed import world_size


def serialize(value: dict) -> bytes:
    """Return what torch.save writes, as bytes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def load(path: Path) -> dict:
    """Read a file of torch.save onto the CPU; nothing in it is executed. Raises UserError if it can't be used."""
    try:
        with zipfile.ZipFile(path) as file:
            # torch.load doesn't compare the checksums; torch.save never compresses, as the maker of a ZIP bomb does.
            if file.testzip() or any(entry.compress_type for entry in file.infolist()):
                raise zipfile.BadZipFile("damaged")
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}: train first (python train.py)") from error
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        advice = "save the state_dict of a network, not the network itself"
        raise UserError(f"{path} holds more than tensors and plain values: {advice}") from error
    except Exception as error:  # a damaged or foreign file can make the unpickler raise anything
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise UserError(f"{path} is not a checkpoint, or damaged ({reason})") from error


def load_checkpoint(path: Path) -> dict:
    """Return a checkpoint of train.py. Raises UserError if it can't be used."""
    checkpoint = load(path)
    missing = {"epoch", "config", "dataset", "model", "averaged_model", "optimizer", "history"} - set(checkpoint)
    if missing:
        raise UserError(f"{path} is not a checkpoint of train.py: it lacks {', '.join(sorted(missing))}")
    return checkpoint


def find_run(folder: Path, settings: dict, is_resumed: bool) -> tuple[dict | None, dict]:
    """Return the checkpoint and the settings of the run to resume; of a new run, None and the settings as given.

    Before its first checkpoint a run has its settings in run.json. Raises UserError where others were given.
    """
    checkpoint = None
    if not is_resumed:
        return None, settings
    if (folder / "last.pt").exists():
        checkpoint = load_checkpoint(folder / "last.pt")
        config = config_from(checkpoint["config"], folder / "last.pt")
        if not (folder / "best.pt").exists():
            raise UserError(f"can't resume: {folder / 'best.pt'} is gone; start a new run without --resume")
    elif (folder / "run.json").exists():
        config = config_from(read_json(folder / "run.json").get("config"), folder / "run.json")
    else:
        return None, settings
    return checkpoint, asdict(resumed_config(config, settings))


def load_weights(path: Path, model: nn.Module) -> dict:
    """Load the averaged weights of a checkpoint into a network, and return the checkpoint.

    The file may also hold a state_dict of the network alone; then what is returned is empty. Raises UserError.
    """
    checkpoint = load(path)
    weights = checkpoint.get("averaged_model", checkpoint)
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path} is not of the network in model.py ({reason})") from error
    return {} if weights is checkpoint else checkpoint


def describe_run(config: TrainConfig, dataset: dict, device: torch.device, init: Path | None) -> dict:
    """Return the content of run.json: all that the numbers of a run may depend on."""
    return {
        "config": asdict(config),
        "init": str(init) if init else None,  # the file of the first weights
        "dataset": dataset,
        "device": str(device),
        "processes": world_size(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "seconds": 0.0,  # of all epochs, with their evaluations and saving
    }


def versions() -> dict[str, str]:
    """Return the versions that a run's numbers may depend on, and the commit of this repository ("" outside git)."""
    try:
        git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
        commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    except OSError:  # no git on this machine
        commit = ""
    packages = {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy")}
    return {"python": platform.python_version(), **packages, "git_commit": commit}


def prepare_output_dir(folder: Path, run: dict, is_resumed: bool) -> None:
    """Continue the run in a folder; or begin one there, after the files of an earlier one have been archived."""
    if is_resumed and (folder / "run.json").exists():
        earlier = read_json(folder / "run.json")
        run["seconds"] = earlier.get("seconds", 0.0)
        if changed := [key for key in ("device", "processes", "threads", "versions") if earlier.get(key) != run[key]]:
            print(f"Resuming with other {', '.join(changed)}: the rest of the run may round differently.")
    else:
        if is_resumed:
            print(f"There is no run in {folder} to resume: a new one begins.")
        if archived := archive(folder, ["last.pt", "best.pt", "metrics.csv", "run.json"]):
            print(f"The earlier run is now in {archived}")
        write_json(folder / "run.json", run)
