"""What all commands share: errors told in one line, exit codes, and signals that end a command."""

import argparse
import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path


class UserError(Exception):
    """Something that the user can put right. The message is the one line that they see: what is wrong, what to do."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, without the usage text."""

    def error(self, message: str) -> None:
        raise UserError(f"{message} (see {self.prog} --help)")


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGTERM, and what clusters send before they preempt a job, raise KeyboardInterrupt as Ctrl-C does."""
    names = ("SIGTERM", "SIGHUP", "SIGUSR1") if threading.current_thread() is threading.main_thread() else ()
    # A signal that is ignored, as SIGHUP is under nohup, stays so.
    changed = [s for s in signal.Signals if s.name in names and signal.getsignal(s) == signal.SIG_DFL]
    for number in changed:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def command(main: Callable) -> Callable:
    """Decorate a script's `main(argv=None)` so that it returns the exit code, its own or one of these.

    0: done. 2: wrong arguments or unusable input, told in one line on standard error. 130: interrupted by Ctrl-C or
    another signal, told in one line, too.
    """

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> int:
        script = Path(sys.modules[main.__module__].__file__).name
        is_first = os.environ.get("LOCAL_RANK", "0") == "0"  # of the processes that torchrun started on this machine
        try:
            with signals_interrupt():
                exit_code = main(argv) or 0
                print(end="", flush=True)
                return exit_code
        except BrokenPipeError:  # the reader of the output has gone, as in `python evaluate.py ... | head -2`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 2
        except (UserError, OSError) as error:
            if not is_first:
                time.sleep(5)  # the first process prints an error that all have, and torchrun then ends the others
            print_error(script, error)
            return 2
        except KeyboardInterrupt as interrupt:
            if is_first:
                print(f"{script}: interrupted{interrupt}", file=sys.stderr)
            return 130

    return run


def print_error(script: str, error: Exception | str) -> None:
    """Print an error in one line on standard error."""
    if isinstance(error, OSError) and error.filename:
        error = f"can't use {error.filename}: {error.strerror}"
    print(f"{script}: error: {' '.join(str(error).split())}", file=sys.stderr)
