"""What all scripts share at the command line: one-line errors, exit codes, checked numbers."""

import argparse
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


class UserError(Exception):
    """Something that the user can put right. The message is the one line that they see: what is wrong, what to do."""


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
            wanted = f"at least {minimum}" if maximum == sys.float_info.max else f"from {minimum} to {maximum}"
            raise argparse.ArgumentTypeError(f"must be {wanted}, not {text}")
        return value

    return parse


def leave(exit_code: int) -> NoReturn:
    """End the process at once. To unload PyTorch takes Python another third of a second and 100 MB."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def command(interrupted: str = "interrupted") -> Callable[[Callable], Callable]:
    """Decorate a script's `main(argv=None)` so that it returns the exit code.

    0: done. 2: wrong arguments or unusable input, told in one line on standard error. 130: interrupted by Ctrl-C, told
    in the line given here. 141: the reader of its output has gone.
    """

    def decorate(main: Callable) -> Callable:
        @functools.wraps(main)
        def run(argv: list[str] | None = None) -> int:
            name = Path(sys.modules[main.__module__].__file__).name
            try:
                main(argv)
                sys.stdout.flush()
            except UserError as error:
                print(f"{name}: error: {' '.join(str(error).split())}", file=sys.stderr)
                return 2
            except KeyboardInterrupt:
                newline = "\n" if sys.stderr.isatty() else ""  # below the ^C and the progress bar
                print(f"{newline}{name}: {interrupted}", file=sys.stderr)
                return 130
            except BrokenPipeError:  # the reader has seen enough, as in `python evaluate.py ... | head -2`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 141  # what a shell says of a program that SIGPIPE ended
            return 0

        return run

    return decorate
