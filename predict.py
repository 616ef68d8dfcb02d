"""Read the digits in pictures: photos, drawings or images of MNIST, with one digit or many in each.

python predict.py photo.jpg drawing.png
"""

import json
import sys
from pathlib import Path

from common.command_line import Parser, UserError, command, print_error, print_line, user_path
from common.files import check_can_write
from model import DigitCNN
from own_digits.picture_file import find_pictures
from own_digits.reader import OWN_CHECKPOINT, load_best_weights, percent, read_number


def expand(path: Path) -> list[Path]:
    """Return the pictures in a folder, or the files that match a pattern such as *.png; else the path itself."""
    found = [path]
    if path.is_dir():
        found, others = find_pictures(path)
        if others:
            names = ", ".join(map(printable, others))
            print_line("predict.py", f"skipped, because their extensions aren't those of pictures: {names}")
    elif not path.exists():
        found = sorted(file for file in path.parent.glob(path.name) if not file.name.startswith("."))
    return found or [path]


def printable(path: Path) -> str:
    """Return the name of a file without line breaks and other control characters."""
    return "".join(char if char.isprintable() else "\ufffd" for char in str(path))


@command
def main(argv: list[str] | None = None) -> int:
    parser = Parser("predict.py", description="Read the digits in pictures, one or many in each.")
    add = parser.add_argument
    add("images", type=user_path, nargs="+", metavar="IMAGE", help="a picture, or a folder of pictures")
    add("--checkpoint", type=user_path, help=f"weights (default: {OWN_CHECKPOINT}, else results/reading/weights.pt)")
    add("--json", action="store_true", help="print a JSON object for each image, on a line of its own")
    add("--preview", type=user_path, metavar="FILE.png", help="draw what the network sees, and its answers")
    args = parser.parse_args(argv)
    if args.preview:
        check_can_write("--preview", args.preview, ".png", b"Title\0predict.py")
    model = DigitCNN()
    weights, classes, note = load_best_weights(model, args.checkpoint)
    if note:
        print_line("predict.py", note)

    paths = [file for path in args.images for file in expand(path)]
    names = [printable(path) for path in paths]
    width, class_width = max(map(len, ["file", *names])), max(11, *map(len, classes))
    if not args.json:
        print(f"weights: {weights}\n\n{'file':{width}}  {'number':>{class_width}}  probability  runner-up", flush=True)
    answers = []
    for path, name in zip(paths, names, strict=True):
        try:
            answer = read_number(model, path)
        except UserError as error:
            print_error("predict.py", f"{name}: {error}")
            continue
        if args.json:
            print(json.dumps({"file": str(path), "weights": weights, **answer.summary(classes)}), flush=True)
        else:
            best = f"{answer.number(classes):>{class_width}}  {percent(answer.probability):>11}"
            runner_up, probability = answer.runner_up(classes)
            print(f"{name:{width}}  {best}  {runner_up} {percent(probability):>7}", flush=True)
        answers.append((name, answer.small()))
    if args.preview and answers:
        from own_digits.preview import draw_answers  # here, as importing matplotlib takes half a second

        draw_answers(args.preview, answers, classes, f"Weights: {weights}")
        print(f"Written: {args.preview}", file=sys.stderr if args.json else sys.stdout)
    return 0 if len(answers) == len(names) else 2


if __name__ == "__main__":
    raise SystemExit(main())
