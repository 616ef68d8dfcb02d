"""Read the digits in pictures: photos, drawings, MNIST's own images.

python predict.py photo.jpg drawing.png
"""

if __name__ == "__main__":  # before the imports, which take a second: Ctrl-C ends in one line there, too
    from common import command_line

    command_line.start()

import json
import os
import sys
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image

from common.command_line import Parser, UserError, command, leave, print_error
from mnist.dataset import to_float
from model import DigitCNN
from own_digits.digit_image import digit_image
from own_digits.picture_file import read_picture
from training.checkpoint import load_checkpoint, load_model, load_weights

OWN = Path("checkpoints/best.pt")
REFERENCE = Path(__file__).parent / "results" / "default" / "weights.pt"
THUMBNAIL = 400  # pixels on the longer side of a picture in the preview


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
        return load_weights(REFERENCE), f"of a reference run (results/default), since there is no {OWN}"
    content = load_checkpoint(checkpoint or OWN)
    name = f"{checkpoint or OWN} (epoch {content['epoch']}, {content['dataset']['name']})"
    return load_model(content, torch.device("cpu")), name


def read_digit(model: DigitCNN, file: Path | BinaryIO) -> Answer:
    """Return what the network reads in a picture's file. Raises UserError when that is no picture, or an empty one."""
    picture = read_picture(file)
    image = digit_image(picture)
    with torch.inference_mode():
        probabilities = model.probabilities(to_float(torch.from_numpy(image).unsqueeze(0)))
    return Answer(picture, image, probabilities[0].tolist())


def printable(path: Path) -> str:
    """Return a file's name in one line, without what a terminal would obey."""
    name = os.fsencode(path).decode(errors="replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in name)


def table_row(name: str, width: int, answer: Answer) -> str:
    digit, runner_up, *_ = answer.digits
    probability, next_best = answer.probabilities[digit], answer.probabilities[runner_up]
    return f"{name:{width}}  {digit:5}  {probability:11.2%}  {runner_up} {next_best:7.2%}"


def check_preview(path: Path) -> None:
    """Raise UserError when a preview would not be a PNG file, or would replace a picture of the user's."""
    if path.suffix.lower() != ".png":
        raise UserError(f"--preview wants the name of a PNG file to draw, not {path}")
    try:
        if path.exists() and not (path.is_file() and b"Title\0predict.py" in path.read_bytes()[:1000]):
            raise UserError(f"--preview would replace {path}, which it hasn't drawn: choose another name")
    except OSError as error:
        raise UserError(f"can't draw {path}: {error.strerror}") from error


@command
def main(argv: list[str] | None = None) -> int:
    parser = Parser("predict.py", description="Read the digits in pictures, one digit in each.")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="a photo, a drawing, an image of MNIST")
    parser.add_argument("--checkpoint", type=Path, help=f"(default: {OWN}, else the weights of a reference run)")
    parser.add_argument("--json", action="store_true", help="print a JSON object for each image, on a line of its own")
    parser.add_argument("--preview", type=Path, metavar="FILE.png", help="draw what the network sees, and its answers")
    args = parser.parse_args(argv)
    if args.preview:
        check_preview(args.preview)
    model, weights = choose_model(args.checkpoint)

    names = [printable(path) for path in args.images]
    width = max(4, *map(len, names))
    if not args.json:
        print(f"weights: {weights}\n\n{'file':{width}}  digit  probability  runner-up")
    read, shown = 0, []
    for path, name in zip(args.images, names, strict=True):
        try:
            answer = read_digit(model, path)
        except UserError as error:
            sys.stdout.flush()
            print_error("predict.py", f"{name}: {error}")
            continue
        read += 1
        if args.preview:
            answer.picture.thumbnail((THUMBNAIL, THUMBNAIL))  # of many pictures, too
            shown.append((name, answer))
        if args.json:
            print(json.dumps({"file": str(path), "weights": weights, **answer.summary()}))
        else:
            print(table_row(name, width, answer))
    if shown:
        from pictures import draw_answers  # half a second of matplotlib, only when asked for

        draw_answers(args.preview, shown, f"Read with the weights {weights}")
    return 0 if read == len(names) else 2


if __name__ == "__main__":
    leave(main())
