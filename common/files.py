"""Write files so that, even after a crash, a reader finds the old file or the new one, never part of one."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from common.command_line import UserError


class FolderInUse(UserError):
    """Another process holds the lock of a folder."""


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
        advice = "free some space, close the file in other programs, or choose another folder"
        raise UserError(f"can't write {path}: {error.strerror or error}; {advice}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_can_write(flag: str, path: Path, suffix: str, mark: bytes) -> None:
    """Raise UserError unless path, given by a flag, has this suffix, and is new or begins with our mark."""
    if path.suffix.lower() != suffix:
        raise UserError(f"{flag} must be the name of a {suffix[1:].upper()} file, not {path}")
    try:
        if path.exists() and not (path.is_file() and mark in path.read_bytes()[:1000]):
            raise UserError(f"{flag} would overwrite {path}, which this command didn't write: choose another name")
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}") from error


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, `.lock` in it, until the with statement or the process ends, however it ends.

    Raises FolderInUse when another process holds the lock, UserError when the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / ".lock", mode=0o666).acquire(timeout=0)  # all users may share it
    except Timeout as error:
        advice = "wait for it to finish or choose another folder"
        raise FolderInUse(f"another process is using {folder}: {advice}") from error
    except OSError as error:
        raise UserError(f"can't write {folder}: {error.strerror or error}; choose another folder") from error
    with held:
        yield


def read_json(path: Path) -> dict:
    """Read a JSON object. Raises UserError if the file holds anything else."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"can't read {path}: {error}") from error
