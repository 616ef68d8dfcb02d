"""The demo's server: its page, and the answers to what is drawn there."""

import html
import io
import json
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from common.command_line import UserError
from model import DigitCNN
from own_digits.reader import read_digit

PAGE = Path(__file__).with_name("page.html")
MAX_BYTES = 1_000_000  # of a drawing; the page's take a few thousand
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """Serves the page, and answers its drawings, to this machine alone. Raises UserError when the port is taken."""

    def __init__(self, port: int, model: DigitCNN, weights: str) -> None:
        self.model = model
        self.page = PAGE.read_text(encoding="utf-8").replace("{{weights}}", html.escape(weights)).encode()
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"can't listen on port {port} ({error}): choose another --port") from error
        names = ("127.0.0.1", "localhost")
        self.hosts = {f"{name}:{self.server_port}" for name in names} | set(names if self.server_port == 80 else ())

    def handle_error(self, *request: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # as of a page that was closed meanwhile
            super().handle_error(*request)


class Handler(BaseHTTPRequestHandler):
    """GET / is the page. POST /answer takes a picture's file and gives JSON: what predict.py reads, and the 28x28."""

    server: Server
    protocol_version = "HTTP/1.1"  # which keeps the connection for the next stroke
    disable_nagle_algorithm = True  # an answer leaves at once,
    wbufsize = -1  # and in one piece
    timeout = 60  # seconds, for a browser that says no more

    def do_GET(self) -> None:
        if self.is_ours("/"):
            self.reply(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        if not self.is_ours("/answer"):
            return
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            self.refuse(HTTPStatus.LENGTH_REQUIRED, "how long is the picture?")
        elif len(length) > 9 or int(length) > MAX_BYTES:
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a picture of more than {MAX_BYTES:,} bytes")
        else:
            try:
                answer = read_digit(self.server.model, io.BytesIO(self.rfile.read(int(length))))
            except UserError as error:
                self.refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
            else:
                content = {**answer.summary(), "image": answer.image.flatten().tolist()}
                self.reply(HTTPStatus.OK, json.dumps(content).encode(), "application/json")

    def is_ours(self, path: str) -> bool:
        """Refuse another path, other sites' pages, and another host: a site whose name leads to this machine."""
        host, origin = self.headers.get("Host"), self.headers.get("Origin")
        if host not in self.server.hosts:
            self.refuse(HTTPStatus.MISDIRECTED_REQUEST, "not the name of this machine")
        elif origin not in (None, f"http://{host}"):
            self.refuse(HTTPStatus.FORBIDDEN, "not from the demo's page")
        elif self.path != path:
            self.refuse(HTTPStatus.NOT_FOUND, "there is no such page")
        else:
            return True
        return False

    def refuse(self, status: HTTPStatus, reason: str) -> None:
        if status != HTTPStatus.UNPROCESSABLE_ENTITY:
            self.close_connection = True  # for the body hasn't been read
        self.reply(status, json.dumps({"error": reason}).encode(), "application/json")

    def reply(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), **HEADERS}
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""
