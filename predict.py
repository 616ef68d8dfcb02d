"""Read the digits in pictures: photos, drawings, MNIST's own images.

python predict.py photo.jpg drawing.png
"""

import json
import os
import sys
from pathlib import Path

from common.command_line import Parser, UserError, command, print_error
from own_digits.reader import OWN, Answer, choose_model, read_digit

THUMBNAIL = 400  # pixels on the longer side of a picture in the preview


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
        from own_digits.preview import draw_answers  # half a second of matplotlib, only when asked for

        draw_answers(args.preview, shown, f"Read with the weights {weights}")
    return 0 if read == len(names) else 2


if __name__ == "__main__":
    raise SystemExit(main())
