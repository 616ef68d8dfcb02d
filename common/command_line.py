"""What all commands share: errors reported in one line, and exit codes."""

import argparse
import functools
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import NoReturn


class UserError(Exception):
    """Something that the user can put right. The message is the one line that they see: what is wrong, what to do."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def user_path(text: str) -> Path:
    """Return the path that an argument names; a leading ~ stands for the user's home folder."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - unlike Path.expanduser, it ignores unknown users


def command(main: FunctionType) -> Callable[..., int]:
    """Decorate a script's `main(argv=None)` so that it returns the exit code; each process prints its own errors.

    0: done, or what main returns. 2: wrong arguments or unusable input, reported in one line on standard error.
    130: interrupted by Ctrl-C, reported in one line, too.
    """
    script = Path(main.__code__.co_filename).name

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> int:
        if "ipykernel" not in sys.modules:  # a notebook's `!python` inherits its Matplotlib backend
            os.environ.pop("MPLBACKEND", None)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # for characters that its encoding lacks
        try:
            exit_code = main(argv) or 0
            print(end="", flush=True)  # here, where a closed pipe is still caught
            return exit_code
        except BrokenPipeError:  # as in `python evaluate.py ... | head -2`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 2
        except (UserError, OSError) as error:
            print_error(script, error)
            return 2
        except KeyboardInterrupt as interrupt:
            print_line(script, "; ".join(["interrupted", *map(str, interrupt.args)]))
            return 130

    return run


def shows_progress() -> bool:
    """Return whether somebody sees a progress bar: in a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def print_error(script: str, error: Exception | str) -> None:
    """Print an error in one line on standard error."""
    if isinstance(error, OSError) and error.filename:
        error = f"can't use {error.filename}: {error.strerror}"
    print_line(script, f"error: {' '.join(str(error).split())}")


def print_line(script: str, text: str) -> None:
    """Print a line on standard error, after the script's name and, under torchrun, the rank of the process."""
    rank = f", rank {os.environ['RANK']}" if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else ""
    print(f"{script}{rank}: {text}", file=sys.stderr)
