"""Read the digits in pictures: photos, drawings, MNIST's own images.

python predict.py photo.jpg drawing.png
"""

import io
import json
import sys
from pathlib import Path

from common.command_line import Parser, UserError, command, print_error
from model import DigitCNN
from own_digits.reader import OWN_CHECKPOINT, load_best_weights, read_digit

SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"}


def expand(path: Path) -> list[Path]:
    """Return the pictures in a folder, or those that a pattern matches where the shell has not expanded it."""
    found = [path]
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    elif not path.exists():
        found = sorted(path.parent.glob(path.name))
    return found or [path]


@command
def main(argv: list[str] | None = None) -> int:
    parser = Parser("predict.py", description="Read the digits in pictures, one digit in each.")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="a picture, or a folder of pictures")
    parser.add_argument("--checkpoint", type=Path, help=f"(default: {OWN_CHECKPOINT}, else results/reading/weights.pt)")
    parser.add_argument("--json", action="store_true", help="print a JSON object for each image, on a line of its own")
    parser.add_argument("--preview", type=Path, metavar="FILE.png", help="draw what the network sees, and its answers")
    args = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for file names that its encoding lacks
    if args.preview:
        from own_digits.preview import check_can_write_preview  # only here: matplotlib takes half a second

        check_can_write_preview(args.preview)
    model = DigitCNN().eval()
    weights = load_best_weights(model, args.checkpoint)

    paths = [file for path in args.images for file in expand(path)]
    # A file's name may have line breaks and other control characters.
    names = ["".join(char if char.isprintable() else "\ufffd" for char in str(path)) for path in paths]
    width = max(len(name) for name in ["file", *names])
    if not args.json:
        print(f"weights: {weights}\n\n{'file':{width}}  digit  probability  runner-up", flush=True)
    answers = []
    for path, name in zip(paths, names, strict=True):
        try:
            answer = read_digit(model, path)
        except UserError as error:
            print_error("predict.py", f"{name}: {error}")
            continue
        if args.json:
            print(json.dumps({"file": str(path), "weights": weights, **answer.summary()}), flush=True)
        else:
            digit, runner_up, *_ = answer.digits
            probability, second = answer.probabilities[digit], answer.probabilities[runner_up]
            print(f"{name:{width}}  {digit:5}  {probability:11.2%}  {runner_up} {second:7.2%}", flush=True)
        answer.picture.thumbnail((400, 400))  # enough for the preview, and memory stays small with many pictures
        answers.append((name, answer))
    if args.preview and answers:
        from own_digits.preview import draw_answers

        draw_answers(args.preview, answers, f"Weights: {weights}")
    return 0 if len(answers) == len(names) else 2


if __name__ == "__main__":
    raise SystemExit(main())
