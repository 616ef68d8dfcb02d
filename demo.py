"""Draw a digit in the browser, and see the network's answer change as you draw.

python demo.py
"""

import webbrowser
from pathlib import Path

from common.command_line import Parser, command
from own_digits.reader import choose_model
from own_digits.server import Server


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser("demo.py", description="Draw a digit in the browser, and see the network's answer as you draw.")
    parser.add_argument("--checkpoint", type=Path, help="(default: as predict.py's)")
    parser.add_argument("--port", type=int, default=8000, help="0 is any free one (default: 8000)")
    parser.add_argument("--no-browser", action="store_true", help="don't open a browser, only say the address")
    args = parser.parse_args(argv)

    model, weights = choose_model(args.checkpoint)
    with Server(args.port, model, weights) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        print(f"weights: {weights}\n{address}   (Ctrl-C ends it)", flush=True)
        if not args.no_browser:
            webbrowser.open(address)
        server.serve_forever()


if __name__ == "__main__":
    raise SystemExit(main())
