"""Read the digits in a picture file: which weights are used, and what the network answers."""

import math
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from model import DigitCNN
from own_digits.number import Digit, read_digits
from own_digits.picture_file import read_picture
from training.run_files import load_weights

DIGITS = list("0123456789")
OWN_CHECKPOINT = Path("checkpoints/best.pt")
READING_WEIGHTS = Path(__file__).parent.parent / "results" / "reading" / "weights.pt"  # benchmarks/reading_weights.py


def percent(probability: float) -> str:
    """Format a probability, rounded down, so that only 1 is 100.00%."""
    return f"{math.floor(1e4 * probability) / 1e4:.2%}"


class Answer(NamedTuple):
    """What the network reads in a picture."""

    picture: Image.Image  # upright, RGB
    rows: list[list[Digit]]

    @property
    def digits(self) -> list[Digit]:
        """All digits, in reading order."""
        return [digit for row in self.rows for digit in row]

    @property
    def probability(self) -> float:
        """The probability that all digits are right, if their errors are independent."""
        return math.prod(float(digit.probabilities.max()) for digit in self.digits)

    def number(self, classes: list[str], second: Digit | None = None) -> str:
        """Return the names of all digits, but of the digit `second`, if given, that of its second most probable class.

        Rows are separated by a space, and so are names if any is longer than one character.
        """
        between = " " if max(map(len, classes)) > 1 else ""
        names = [[classes[digit.ranking[digit is second]] for digit in row] for row in self.rows]
        return " ".join(between.join(row) for row in names)

    def runner_up(self, classes: list[str]) -> tuple[str, float]:
        """Return the next most probable number, in which one digit differs, and its probability."""
        ratios = [np.divide(*np.sort(digit.probabilities)[-2:]) for digit in self.digits]  # of the second to the first
        return self.number(classes, self.digits[int(np.argmax(ratios))]), self.probability * float(max(ratios))

    def small(self) -> "Answer":
        """Return the answer with a picture of at most 400x400 pixels: enough for the preview, and small in memory."""
        picture = self.picture.copy()
        picture.thumbnail((400, 400))
        scale = max(picture.size) / max(self.picture.size)
        return Answer(picture, [[digit._replace(box=scale * digit.box) for digit in row] for row in self.rows])

    def summary(self, classes: list[str]) -> dict:
        """Return the answer as it is written in JSON; classes are the names of the classes."""
        digits = [
            {
                "digit": classes[digit.ranking[0]],
                "probability": float(digit.probabilities.max()),
                "probabilities": digit.probabilities.tolist(),
                "box": digit.box[[1, 0, 3, 2]].round(1).tolist(),  # left, top, right, bottom
            }
            for digit in self.digits
        ]
        whole = {"number": self.number(classes), "probability": self.probability}
        return {**whole, "runner_up": self.runner_up(classes)[0], "classes": classes, "digits": digits}


class Weights(NamedTuple):
    """Which weights a network has."""

    description: str
    classes: list[str]  # the names of what the network tells apart
    note: str  # how to use other weights, if the user chose none; else ""


def load_best_weights(model: nn.Module, checkpoint: Path | None) -> Weights:
    """Load the weights of a checkpoint into the network, and put it into evaluation mode. Raises UserError.

    None means the user's own checkpoint, or READING_WEIGHTS if that is missing or was trained on synthetic digits.
    """
    path, reason, note = checkpoint or OWN_CHECKPOINT, "", ""
    content = load_weights(path, model) if checkpoint or path.exists() else {}
    if not checkpoint and not path.exists():
        reason = f", as there is no {path}"
    elif not checkpoint and content.get("dataset", {}).get("name") == "synthetic":
        reason = f", as {path} was trained on synthetic digits"
        note = f"note: results/reading/weights.pt is used{reason}; to use {path} anyway, add --checkpoint {path}"
    elif not checkpoint:
        note = f"note: {path} is used; for photos of digits, --checkpoint {READING_WEIGHTS} is better"
    if reason:
        path, content = Path("results/reading/weights.pt"), load_weights(READING_WEIGHTS, model)
    outputs = model.eval()(torch.zeros(1, 1, 28, 28)).shape[1]
    classes = content.get("dataset", {}).get("classes") or [str(number) for number in range(outputs)]
    run = "" if reason else f" (weights only, with classes assumed to be 0 to {outputs - 1})"
    if {"epoch", "dataset"} <= content.keys():
        run = f" (epoch {content['epoch']}, {content['dataset']['name']})"
    return Weights(f"{path}{run}{reason}", classes, note)


def read_number(model: DigitCNN, file: Path | BinaryIO) -> Answer:
    """Return what the network reads in a picture file. Raises UserError when there is no picture or no digit in it."""
    picture = read_picture(file)
    return Answer(picture, read_digits(picture, model))
