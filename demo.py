"""Draw a digit in the browser and watch the network's answer change.

python demo.py
"""

import webbrowser
from pathlib import Path

from common.command_line import Parser, command
from model import DigitCNN
from own_digits.reader import OWN_CHECKPOINT, load_best_weights
from own_digits.server import Server


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser("demo.py", description="Draw a digit in the browser and watch the network's answer change.")
    parser.add_argument("--checkpoint", type=Path, help=f"(default: {OWN_CHECKPOINT}, else a reference run's weights)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address, don't open a browser")
    args = parser.parse_args(argv)

    model = DigitCNN().eval()
    weights = load_best_weights(model, args.checkpoint)
    with Server(args.port, model, weights) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        print(f"weights: {weights}\n{address}   (stop with Ctrl-C)", flush=True)
        if not args.no_browser:
            webbrowser.open(address)
        server.serve_forever()


if __name__ == "__main__":
    raise SystemExit(main())
