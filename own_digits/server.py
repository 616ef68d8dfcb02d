"""The demo's web server: it sends the page, and answers the drawings that the page sends back."""

import io
import json
import sys
import threading
from collections.abc import Container
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from common.command_line import UserError
from model import DigitCNN
from own_digits.layers import DIGITS, as_bytes, kernels, record_activations
from own_digits.number import look
from own_digits.reader import read_number

PAGE = Path(__file__).with_name("page.html")
MAX_BYTES = 1_000_000  # of a drawing; the page sends a few thousand


class Server(ThreadingHTTPServer):
    """The demo's server, for this machine only. Raises UserError when it can't listen on the port.

    models are networks by the descriptions of their weights; the page steps through them in this order.
    """

    def __init__(self, port: int, models: dict[str, DigitCNN]) -> None:
        weights = [{"name": name, **kernels(model)} for name, model in models.items()]
        self.contents = {
            "/": (PAGE.read_bytes(), "text/html; charset=utf-8"),
            "/weights": (json.dumps(weights).encode(), "application/json"),
        }
        self.models = {f"/answer/{number}": model for number, model in enumerate(models.values())}
        self.lock = threading.Lock()  # the hooks in a network record one drawing at a time
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"can't listen on port {port} ({error}): choose another --port") from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the browser closed the connection
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """GET / returns the page, and GET /weights, as JSON, the kernels of each network.

    POST /answer/N takes a picture file and returns JSON: the answer of network N, the 28x28 image, and the activations.
    """

    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"  # keeps the connection open for the next drawing
    wbufsize = 65536  # bytes: sends headers and content at once, without waiting for an acknowledgement between them

    def do_GET(self) -> None:
        if self.is_allowed(self.server.contents):
            self.reply(HTTPStatus.OK, *self.server.contents[self.path])

    def do_POST(self) -> None:
        if not self.is_allowed(self.server.models):
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
        elif len(length) > 9 or int(length) > MAX_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            try:
                picture = io.BytesIO(self.rfile.read(int(length)))
                status, content = HTTPStatus.OK, self.answer(self.server.models[self.path], picture)
            except UserError as error:
                status, content = HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)}
            self.reply(status, json.dumps(content).encode(), "application/json")

    def answer(self, model: DigitCNN, picture: io.BytesIO) -> dict:
        """Return what a network reads in a picture, for JSON. Raises UserError when there is no digit in it."""
        with self.server.lock, record_activations(model) as activations:
            answer = read_number(model, picture)
            digit, *others = answer.digits
            if others:
                raise UserError(f"this page shows one digit, not {answer.number(DIGITS)}")
            look(model, [(digit.image, digit.box)])
        layers = {layer: as_bytes(values[0]) for layer, values in activations.items()}  # of the image as it is
        summary = answer.summary(DIGITS)
        return {**summary, **summary["digits"][0], "image": digit.image.flatten().tolist(), "layers": layers}

    def is_allowed(self, paths: Container[str]) -> bool:
        """Return whether a request is for one of these paths and comes from no other site; if not, send an error."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if host.removesuffix(f":{self.server.server_port}") not in ("127.0.0.1", "localhost"):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)  # another site's name that resolves to this machine
        elif origin not in (None, f"http://{host}"):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path not in paths:
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

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing for a request."""
