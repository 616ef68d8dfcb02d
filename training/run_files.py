"""The files of a run: last.pt is the source of truth; best.pt, metrics.csv and run.json are derived from it.

Checkpoints are dicts of tensors and plain Python values, as torch.save writes them.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import pickle
import platform
import subprocess
import zipfile
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from common import __version__
from common.command_line import UserError
from common.files import write_atomically
from training.config import TrainConfig, config_from
from training.distributed import world_size
from training.metrics import EpochMetrics, best_epoch, metrics_csv

PROGRAM = Path(__file__).parent.parent


def describe_run(config: TrainConfig, dataset: dict, device: torch.device, init: Path | None) -> dict:
    """Return the content of run.json: all that can affect the results. init is the file of the initial weights."""
    versions = {"program": __version__, "python": platform.python_version(), "git_commit": git_commit()}
    versions |= {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy")}
    return {
        "config": asdict(config),
        "init": describe_file(init) if init else None,
        "dataset": dataset,
        "device": str(device),
        "processes": world_size(),
        "threads": torch.get_num_threads(),
        "versions": versions,
        "code": hash_code(),
        "seconds": 0.0,  # for all epochs, evaluations included
    }


def describe_file(path: Path) -> dict:
    """Return the path of a file, and the MD5 of what is in it now."""
    return {"file": str(path), "md5": hashlib.md5(path.read_bytes()).hexdigest()}


def git_commit() -> str:
    """Return the program's commit, with "-dirty" appended if a file has changed since; "" if there is none."""
    git = ["git", "-C", str(PROGRAM), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]  # no tags
    try:  # a folder without a repository of its own may lie inside somebody else's
        return subprocess.run(git, capture_output=True).stdout.decode().strip() if (PROGRAM / ".git").exists() else ""
    except OSError:  # git is not installed
        return ""


def hash_code() -> str:
    """Return a hash of the program's .py files (without those of own_digits), whatever their line endings."""
    files = sorted(file for room in ("", "common", "mnist", "training") for file in (PROGRAM / room).glob("*.py"))
    return hashlib.sha256("".join(file.read_text(encoding="utf-8") for file in files).encode()).hexdigest()


def save(folder: Path, run: dict, history: list[EpochMetrics], best_model: dict, stateful: dict) -> str:
    """Write last.pt, then the files that are derived from it: best.pt, metrics.csv and run.json.

    stateful has model, averaged_model and optimizer. Returns the errors of writing the derived files, or "".
    """
    rows, epoch = [asdict(row) for row in history], best_epoch(history).epoch
    last = {name: part.state_dict() for name, part in stateful.items()} | {"best_model": best_model}
    last |= {"optimizer_class": type(stateful["optimizer"]).__name__, "epoch": len(history), "history": rows, **run}
    best = {"averaged_model": best_model, "epoch": epoch, "history": rows[:epoch], **run}
    write_atomically(folder / "last.pt", serialize(last))
    others = {"best.pt": serialize(best), "metrics.csv": metrics_csv(history), "run.json": json.dumps(run, indent=2)}
    failures = []
    for name, content in others.items():
        try:
            write_atomically(folder / name, content)
        except UserError as error:  # such as a file that is open in Excel
            failures.append(str(error))
    return "; ".join(failures)


def serialize(value: dict) -> bytes:
    """Return what torch.save writes, as bytes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def archive(folder: Path) -> None:
    """Move the files of the run in the folder to folder/archive/<time>/, which appears only when it is complete."""
    names = ("best.pt", "metrics.csv", "run.json", "last.pt")
    files = [folder / name for name in names if (folder / name).is_file()]
    target = folder / "archive" / datetime.now().isoformat().replace(":", "-")
    temporary = target.with_name(f"{target.name}.tmp")
    for file in files:
        write_atomically(temporary / file.name, file.read_bytes())
    if files:
        temporary.rename(target)
    for file in files[:-1]:  # last.pt stays until the new one takes its place: there is always a run to resume
        with contextlib.suppress(OSError):  # on Windows, if the file is open in another program
            file.unlink()


def load_checkpoint(path: Path) -> dict:
    """Load a file of torch.save onto the CPU; no code in it is executed. Raises UserError if it can't be used."""
    if not path.exists():
        raise UserError(f"there is no {path}: train first (python train.py), or give another file")
    if path.is_dir():
        raise UserError(f"{path} is a folder: give a file in it, such as {min(path.glob('*.pt'), default='best.pt')}")
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            # torch.load skips the checksums. torch.save doesn't compress, so a compressed file may be a zip bomb.
            if file.testzip() or any(entry.compress_type for entry in file.infolist()):
                raise zipfile.BadZipFile("its checksums are wrong, or it is compressed")
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        advice = "save its weights alone, with torch.save(model.state_dict(), FILE)"
        raise UserError(f"{path} holds more than tensors and plain values, perhaps a whole model: {advice}") from error
    except Exception as error:  # a damaged or foreign file can make the unpickler raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0][:100]
        raise UserError(f"{path} is damaged, or not a file that torch.save wrote ({reason})") from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path} holds a {type(checkpoint).__name__}, not a checkpoint or state_dict")
    return checkpoint


def load_weights(path: Path, model: nn.Module) -> dict:
    """Load the weights in a file into a network; return the checkpoint if train.py wrote it, else {}.

    Other files may hold a state_dict, alone or under a usual key, even one of a compiled or wrapped model.
    """
    checkpoint = load_checkpoint(path)
    names = ("averaged_model", "state_dict", "model_state_dict", "model")
    weights = next((checkpoint[name] for name in names if name in checkpoint), checkpoint)
    try:
        for prefix in ("module.", "_orig_mod.", "module."):  # added by DataParallel, AveragedModel, compile
            consume_prefix_in_state_dict_if_present(weights, prefix)
        weights.pop("n_averaged", None)  # added by AveragedModel
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[-1].strip()
        advice = "train it first, or give weights of this network"
        raise UserError(f"{path} doesn't fit the network in model.py ({reason}): {advice}") from error
    if not all(value.isfinite().all() for value in weights.values()):
        raise UserError(f"{path} holds weights that are infinite or NaN")
    return checkpoint if "averaged_model" in checkpoint else {}


def find_run(folder: Path, settings: dict, init: Path | None) -> dict | None:
    """Return the content of the folder's last.pt, to resume its run; None if there is none.

    Raises UserError if that run has different settings, or started from a file other than init.
    """
    path, best_path = folder / "last.pt", folder / "best.pt"
    if not path.exists():
        return None
    checkpoint = load_checkpoint(path)
    saved = asdict(config_from(checkpoint.get("config"), path))
    changed = [f"{name} is {saved[name]}, not {value}" for name, value in settings.items() if value != saved[name]]
    first = checkpoint.get("init")  # path and MD5 of the initial weights' file; in older versions the path alone
    known = first.values() if isinstance(first, dict) else [first]
    if init and str(init) not in known and describe_file(init)["md5"] not in known:
        changed.append(f"it didn't start from {init}")
    if changed:
        advice = "leave out these flags, or start a new run without --resume"
        if len(changed) == 1 and changed[0].startswith("epochs is"):  # else best.pt may have seen what is now held out
            advice += f" and with --init {best_path}, which starts from its weights"
        raise UserError(f"can't resume: the run has other settings ({'; '.join(changed)}): {advice}")
    if "best_model" not in checkpoint:  # older versions kept the best epoch's weights in best.pt alone
        history, epoch = checkpoint["history"], best_epoch([EpochMetrics(**row) for row in checkpoint["history"]]).epoch
        best = load_checkpoint(best_path) if best_path.exists() else {}
        if best.get("history") != history[:epoch]:
            advice = f"put the best.pt of epoch {epoch} beside it, or start a new run with --init {path}"
            raise UserError(f"can't resume: {path}, from an older version, lacks the best epoch's weights; {advice}")
        checkpoint["best_model"] = best["averaged_model"]
    return {**checkpoint, "config": saved}


def restore(checkpoint: dict, run: dict, stateful: dict) -> None:
    """Load last.pt's content into stateful's objects. Raises UserError if data, network or optimizer differ."""
    if checkpoint["dataset"]["md5"] != run["dataset"]["md5"]:
        raise UserError(f"can't resume: the run was trained on different files of {run['dataset']['name']}")
    used, ours = checkpoint.get("optimizer_class", "AdamW"), type(stateful["optimizer"]).__name__
    if used != ours:
        raise UserError(f"can't resume: last.pt was saved with another optimizer ({used}, not {ours})")
    try:
        for name, part in stateful.items():
            part.load_state_dict(checkpoint[name])
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"can't resume: last.pt belongs to a different network ({error})") from error
