"""Read the digit in a picture file: which weights are used, and what the network answers."""

import math
from itertools import product
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from model import DigitCNN
from own_digits.digit_image import digit_image
from own_digits.picture_file import read_picture
from training.run_files import load_weights

OWN_CHECKPOINT = Path("checkpoints/best.pt")
READING_WEIGHTS = Path(__file__).parent.parent / "results" / "reading" / "weights.pt"  # benchmarks/reading_weights.py


class Answer(NamedTuple):
    """What the network reads in a picture."""

    picture: Image.Image  # upright, RGB
    image: np.ndarray  # (28, 28) uint8: what the network sees
    probabilities: list[float]  # of the classes

    @property
    def digits(self) -> list[int]:
        """The classes, by number, from the most to the least probable."""
        return sorted(range(len(self.probabilities)), key=lambda digit: -self.probabilities[digit])

    def summary(self, classes: list[str]) -> dict:
        """Return the answer as it is written in JSON; classes are the names of the classes."""
        digit, runner_up, *_ = self.digits
        best = {"digit": classes[digit], "probability": self.probabilities[digit], "runner_up": classes[runner_up]}
        return {**best, "classes": classes, "probabilities": self.probabilities}


class Weights(NamedTuple):
    """Which weights a network has."""

    description: str
    classes: list[str]  # the names of what the network tells apart
    note: str  # a line that says how to use other weights, where none were asked for, or ""


def load_best_weights(model: nn.Module, checkpoint: Path | None) -> Weights:
    """Load the weights of a checkpoint into the network, and put it into evaluation mode. Raises UserError.

    None stands for the user's own checkpoint; if there is none, or it is of synthetic digits, for READING_WEIGHTS.
    """
    path, reason, note = checkpoint or OWN_CHECKPOINT, "", ""
    content = load_weights(path, model) if checkpoint or path.exists() else {}
    if not checkpoint and not path.exists():
        reason = f", as there is no {path}"
    elif not checkpoint and content.get("dataset", {}).get("name") == "synthetic":
        reason = f", as {path} was trained on synthetic digits"
        note = f"note: results/reading/weights.pt is used{reason}; --checkpoint {path} uses that one"
    elif not checkpoint:
        note = f"note: {path} is used; --checkpoint {READING_WEIGHTS} reads photos of digits better"
    if reason:
        path, content = Path("results/reading/weights.pt"), load_weights(READING_WEIGHTS, model)
    outputs = model.eval()(torch.zeros(1, 1, 28, 28)).shape[1]
    classes = content.get("dataset", {}).get("classes") or [str(number) for number in range(outputs)]
    run = "" if reason else f" (weights alone, whose classes are taken to be 0 to {outputs - 1})"
    if {"epoch", "dataset"} <= content.keys():
        run = f" (epoch {content['epoch']}, {content['dataset']['name']})"
    return Weights(f"{path}{run}{reason}", classes, note)


def read_digit(model: DigitCNN, file: Path | BinaryIO) -> Answer:
    """Return what the network reads in a picture file. Raises UserError when there is no picture or no digit in it.

    The probabilities are averages over nine views of the image, as a network is often too sure of a single one.
    """
    picture = read_picture(file)
    image = digit_image(picture, model)
    with torch.inference_mode():
        probabilities = model.probabilities(views(torch.from_numpy(image) / 255)).mean(dim=0)  # (9, 10) -> (10,)
    return Answer(picture, image, probabilities.tolist())


def views(image: torch.Tensor) -> torch.Tensor:
    """Return an image, (28, 28), as it is, and a little rotated, smaller and larger: (9, 1, 28, 28)."""
    maps = []
    for degrees, scale in product((0, -10, 10), (1, 0.85, 1.15)):
        cos, sin = math.cos(math.radians(degrees)) / scale, math.sin(math.radians(degrees)) / scale
        maps.append([[cos, -sin, 0], [sin, cos, 0]])
    grid = F.affine_grid(torch.tensor(maps), [len(maps), 1, *image.shape], align_corners=False)
    return F.grid_sample(image.expand(len(maps), 1, -1, -1), grid, align_corners=False)
