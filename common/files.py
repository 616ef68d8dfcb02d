"""Writing files so that a reader, or a crash at any moment, finds the old file or the new one, never a part of one."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from common.command_line import UserError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write content beside path, flush it to the disk, rename it over path. Raises UserError when that fails."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"can't write {path}: {reason}; make room there or choose another folder") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def only_one(folder: Path, timeout: float = 0) -> Iterator[None]:
    """Be the only process in this context for the folder. The lock ends with its process, however that ends.

    Raises UserError when another process is still in it after that many seconds, or the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise UserError(f"another process is at work in {folder}: wait for its end or choose another folder") from error
    except OSError as error:
        raise UserError(f"can't write {folder}: {error.strerror or error}; choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def write_json(path: Path, value: dict) -> None:
    """Write a dict as JSON, as write_atomically does. Raises UserError."""
    write_atomically(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict:
    """Read what write_json wrote. Raises UserError when it can't be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError) as error:
        raise UserError(f"can't read {path}: {error}") from error
    return value


def archive(folder: Path, names: list[str]) -> Path | None:
    """Move those files of folder that exist to folder/archive/<time>/; return that, or None. Raises UserError."""
    existing = [folder / name for name in names if (folder / name).exists()]
    if not existing:
        return None
    target = folder / "archive" / time.strftime("%Y-%m-%dT%H-%M-%S")
    while target.exists():  # two runs within one second
        target = target.with_name(target.name + "+")
    try:
        target.mkdir(parents=True)
        for file in existing:
            file.rename(target / file.name)
    except OSError as error:
        raise UserError(f"can't move the earlier run to {target}: {error.strerror or error}") from error
    return target
