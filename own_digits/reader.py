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
    probabilities: list[float]  # of the ten digits

    @property
    def digits(self) -> list[int]:
        """The ten digits, from the most to the least probable."""
        return sorted(range(10), key=lambda digit: -self.probabilities[digit])

    def summary(self) -> dict:
        """Return the answer as it is written in JSON."""
        digit, runner_up, *_ = self.digits
        best = {"digit": digit, "probability": self.probabilities[digit], "runner_up": runner_up}
        return {**best, "probabilities": self.probabilities}


def load_best_weights(model: nn.Module, checkpoint: Path | None) -> str:
    """Load the weights of a checkpoint into the network, and return a description of them.

    None stands for the user's own checkpoint if there is one, else for READING_WEIGHTS. Raises UserError.
    """
    if checkpoint is None and not OWN_CHECKPOINT.exists():
        load_weights(READING_WEIGHTS, model)
        return f"results/reading/weights.pt, as there is no {OWN_CHECKPOINT}"
    path = checkpoint or OWN_CHECKPOINT
    content = load_weights(path, model)
    return f"{path} (epoch {content['epoch']}, {content['dataset']['name']})" if "epoch" in content else str(path)


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
