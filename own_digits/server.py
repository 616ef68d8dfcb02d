"""The demo's web server: it sends the page, and answers the drawings that the page sends back."""

import html
import io
import json
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from torch import nn

from common.command_line import UserError
from own_digits.reader import read_digit

PAGE = Path(__file__).with_name("page.html")
MAX_BYTES = 1_000_000  # of a drawing; the page sends a few thousand


class Server(ThreadingHTTPServer):
    """The demo's server, for this machine only. Raises UserError when it can't listen on the port."""

    def __init__(self, port: int, model: nn.Module, weights: str) -> None:
        self.model = model
        self.page = PAGE.read_text(encoding="utf-8").replace("{{weights}}", html.escape(weights)).encode()
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"can't listen on port {port} ({error}): choose another --port") from error

    def handle_error(self, *request: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the browser closed the connection
            super().handle_error(*request)


class Handler(BaseHTTPRequestHandler):
    """GET / returns the page. POST /answer takes a picture file and returns JSON: the answer and the 28x28 image."""

    server: Server
    protocol_version = "HTTP/1.1"  # keeps the connection open for the next drawing
    wbufsize = -1  # sends headers and content in one packet

    def do_GET(self) -> None:
        if self.is_allowed("/"):
            self.reply(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        if not self.is_allowed("/answer"):
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
        elif len(length) > 9 or int(length) > MAX_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            try:
                answer = read_digit(self.server.model, io.BytesIO(self.rfile.read(int(length))))
                status, content = HTTPStatus.OK, {**answer.summary(), "image": answer.image.flatten().tolist()}
            except UserError as error:
                status, content = HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)}
            self.reply(status, json.dumps(content).encode(), "application/json")

    def is_allowed(self, path: str) -> bool:
        """Return whether a request has this path and doesn't come from another site; if it does, send an error."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if host.removesuffix(f":{self.server.server_port}") not in ("127.0.0.1", "localhost"):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)  # another site's name that resolves to this machine
        elif origin not in (None, f"http://{host}"):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path != path:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            return True
        return False

    def reply(self, status: HTTPStatus, content: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing for a request."""
