"""What all scripts share at the command line: one-line errors, exit codes, checked numbers."""

import argparse
import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


class UserError(Exception):
    """Something that the user can put right. The message is the one line that they see: what is wrong, what to do."""


class Interruption(KeyboardInterrupt):
    """A signal that ends a script: Ctrl-C's SIGINT, or SIGTERM. advice is the rest of the line that the user sees."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.advice = ""

    def __str__(self) -> str:
        return ("terminated" if self.number == signal.SIGTERM else "interrupted") + self.advice


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, without the usage text."""

    def error(self, message: str):
        raise UserError(f"{message} (see {self.prog} --help)")


def number(kind: type, minimum: float, maximum: float = sys.float_info.max) -> Callable[[str], float]:
    """Return an argparse type: a number of that kind within [minimum, maximum]; neither NaN nor infinite."""

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            noun = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {noun}, not {text!r}") from None
        if not minimum <= value <= maximum:  # not (...) so that NaN fails too
            limit = f"at most {maximum}" if value > maximum else f"at least {minimum}"
            raise argparse.ArgumentTypeError(f"must be {limit}, not {text}")
        return value

    return parse


def leave(exit_code: int) -> NoReturn:
    """End the process at once. To unload PyTorch takes Python another third of a second and 100 MB."""
    for stream in (sys.stdout, sys.stderr):
        print(end="", file=stream, flush=True)  # does nothing where the stream was closed
    os._exit(exit_code)


def is_first_here() -> bool:
    """Say whether this process is the only one, or the first on this machine, of those that torchrun started."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def on_signals(react: Callable[[int], None]) -> dict[int, Callable]:
    """Have Ctrl-C and SIGTERM call react with the signal's number, once; return what they did before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = [number for number, handler in before.items() if handler is not signal.SIG_IGN]  # as nohup has it ignored

    def handle(number: int, frame: object) -> None:
        for each in handled:
            signal.signal(each, signal.SIG_DFL)  # a second one ends the process at once
        react(number)

    for number in handled:
        signal.signal(number, handle)
    return before


def start() -> None:
    """Have Ctrl-C and SIGTERM end the script in one line while it imports what it needs: PyTorch takes a second."""

    def stop(number: int) -> NoReturn:
        if is_first_here():
            print(f"{Path(sys.argv[0]).name}: {Interruption(number)}", file=sys.stderr, flush=True)
        os._exit(128 + number)

    on_signals(stop)


def command(main: Callable) -> Callable:
    """Decorate a script's `main(argv=None)` so that it returns the exit code, its own or one of these.

    0: done. 2: wrong arguments or unusable input, told in one line on standard error. 130 and 143: ended by Ctrl-C or
    SIGTERM, told in one line, too. 141: the reader of its output has gone.
    """

    def interrupt(number: int) -> NoReturn:
        raise Interruption(number)

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> int:
        name = Path(sys.modules[main.__module__].__file__).name
        before = on_signals(interrupt)
        try:
            return run_to_its_end(main, argv, name)
        except Interruption as interruption:
            newline = "\n" if sys.stderr.isatty() else ""  # below the ^C and the progress bar
            if is_first_here():
                print(f"{newline}{name}: {interruption}", file=sys.stderr)
            return 128 + interruption.number
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    return run


def run_to_its_end(main: Callable, argv: list[str] | None, name: str) -> int:
    """Call main; return the exit code, having told an error in one line."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # of names that its encoding hasn't
    try:
        exit_code = main(argv) or 0
        print(end="", flush=True)
    except UserError as error:
        if not is_first_here():
            time.sleep(1)  # an error of all is told by the first of them, whose end is that of the others meanwhile
        print_error(name, error)
        return 2
    except OSError as error:  # of the output: all else that can't be read or written is a UserError by now
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # its reader has seen enough, as in `python evaluate.py ... | head -2`
            return 141  # what a shell says of a program that SIGPIPE ended
        print_error(name, f"can't write the output: {error.strerror or error}")
        return 2
    return exit_code


def print_error(script: str, error: object) -> None:
    """Tell an error in one line."""
    print(f"{script}: error: {' '.join(str(error).split())}", file=sys.stderr)
