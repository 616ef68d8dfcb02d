"""Draw a digit in the browser and watch the network read it, layer by layer.

python demo.py
"""

import webbrowser

import torch

from common.command_line import Parser, command, print_line, user_path
from model import DigitCNN
from own_digits.layers import check_can_show
from own_digits.reader import OWN_CHECKPOINT, load_best_weights
from own_digits.server import Server


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser("demo.py", description="Draw a digit in the browser and watch the network read it.")
    text = f"(default: {OWN_CHECKPOINT}, else results/reading/weights.pt); several of them: the page steps through them"
    parser.add_argument("--checkpoint", type=user_path, action="append", help=text)
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address, don't open a browser")
    args = parser.parse_args(argv)

    torch.set_num_threads(1)  # faster for one small image at a time, above all beside a busy browser
    models = {}
    for checkpoint in args.checkpoint or [None]:
        model = DigitCNN()
        weights = load_best_weights(model, checkpoint)
        check_can_show(model, weights.classes)
        if weights.note:
            print_line("demo.py", weights.note)
        models[weights.description] = model
    with Server(args.port, models) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        print(*(f"weights: {weights}" for weights in models), f"{address}   (stop with Ctrl-C)", sep="\n", flush=True)
        if not args.no_browser:
            webbrowser.open(address)
        server.serve_forever()


if __name__ == "__main__":
    raise SystemExit(main())
