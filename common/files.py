"""Writing files so that a reader, or a crash at any moment, finds the old file or the new one, never a part of one."""

import contextlib
import errno
import json
import os
import sys
from datetime import datetime
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


def lock(folder: Path) -> contextlib.AbstractContextManager:
    """Hold the lock of a folder, `.lock` in it, until the end of a with statement or of the process, however it ends.

    Some network file systems have no locks: there, it only warns. Raises UserError when another process holds the lock.
    """
    file = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(file, fallback_to_soft=False).acquire(timeout=0)  # a soft lock would outlive a killed process
    except Timeout as error:
        advice = f"wait for its end or choose another folder; if none is alive, delete {file}"
        raise UserError(f"another process is at work in {folder}: {advice}") from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise UserError(f"can't write {folder}: {error.strerror or error}; choose another folder") from error
        print(f"warning: {folder} has no locks: nothing keeps a second run out of it", file=sys.stderr)
        return contextlib.nullcontext()


def read_json(path: Path) -> dict:
    """Read an object of JSON. Raises UserError when that is not what the file holds."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"can't read {path}: {error}") from error


def archive(folder: Path, names: list[str]) -> Path | None:
    """Move those files of folder that exist to folder/archive/<time>/; return that, or None."""
    existing = [folder / name for name in names if (folder / name).exists()]
    if not existing:
        return None
    target = folder / "archive" / datetime.now().isoformat().replace(":", "-")
    target.mkdir(parents=True)
    for file in existing:
        file.rename(target / file.name)
    return target
