"""What the network reads in a picture's file, and with which weights."""

from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image

from model import DigitCNN
from own_digits.digit_image import digit_image
from own_digits.picture_file import read_picture
from training.checkpoint import load_model

OWN = Path("checkpoints/best.pt")
REFERENCE = Path(__file__).parent.parent / "results" / "default" / "weights.pt"


class Answer(NamedTuple):
    """What the network reads in a picture."""

    picture: Image.Image  # upright, RGB
    image: np.ndarray  # (28, 28) uint8: what the network sees
    probabilities: list[float]  # of the ten digits

    @property
    def digits(self) -> list[int]:
        """The ten digits, the likeliest first."""
        return sorted(range(10), key=lambda digit: -self.probabilities[digit])

    def summary(self) -> dict:
        digit, runner_up, *_ = self.digits
        return {
            "digit": digit,
            "probability": self.probabilities[digit],
            "runner_up": runner_up,
            "probabilities": self.probabilities,
        }


def choose_model(checkpoint: Path | None) -> tuple[DigitCNN, str]:
    """Return the network that answers, and what its weights are: the checkpoint's, or of a reference run if None.

    Your own training's checkpoints/best.pt goes before the reference run. Raises UserError.
    """
    if checkpoint is None and not OWN.exists():
        return load_model(REFERENCE)[0], f"of a reference run (results/default), since there is no {OWN}"
    model, content = load_model(checkpoint or OWN)
    name = str(checkpoint or OWN)
    if content:
        name += f" (epoch {content['epoch']}, {content['dataset']['name']})"
    return model, name


def read_digit(model: DigitCNN, file: Path | BinaryIO) -> Answer:
    """Return what the network reads in a picture's file. Raises UserError when that is no picture, or an empty one."""
    picture = read_picture(file)
    image = digit_image(picture)
    with torch.inference_mode():
        probabilities = model.probabilities(torch.from_numpy(image)[None, None] / 255)  # (1, 1, 28, 28)
    return Answer(picture, image, probabilities[0].tolist())
