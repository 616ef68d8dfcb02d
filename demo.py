"""Draw a digit in the browser and watch the network read it, layer by layer: one HTML file, without a server.

python demo.py
"""

import webbrowser
from pathlib import Path

from common.command_line import Parser, command, print_line, user_path
from common.files import check_can_write, write_atomically
from model import DigitCNN
from own_digits.demo_page import build_page, check_can_show, network_of
from own_digits.reader import OWN_CHECKPOINT, load_best_weights


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser("demo.py", description="Make a page on which to draw a digit and watch the network read it.")
    add, default = parser.add_argument, f"(default: {OWN_CHECKPOINT}, else results/reading/weights.pt)"
    add("--checkpoint", type=user_path, action="append", help=f"weights; repeat the flag to compare several {default}")
    add("--save", type=user_path, default=Path("demo.html"), metavar="FILE.html", help="the page (default: demo.html)")
    add("--no-browser", action="store_true", help="only write the page, don't open it")
    args = parser.parse_args(argv)
    check_can_write("--save", args.save, ".html", b"<title>Draw a digit, and watch a network read it")

    networks = []
    for checkpoint in args.checkpoint or [None]:
        model = DigitCNN()
        name, classes, note = load_best_weights(model, checkpoint)
        check_can_show(model)
        networks.append(network_of(name, model, classes))
        if note:
            print_line("demo.py", note)
        print(f"weights: {name}")
    write_atomically(args.save, build_page(networks))
    print(f"Written: {args.save}", flush=True)
    if not args.no_browser and not webbrowser.open(args.save.resolve().as_uri()):
        print_line("demo.py", f"can't open a browser: open {args.save} yourself")


if __name__ == "__main__":
    raise SystemExit(main())
