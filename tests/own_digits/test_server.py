"""The demo's requests, one by one."""

import http.client
import io
import json
import socket
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from drawing import draw
from PIL import Image

from own_digits.layers import kernels
from own_digits.reader import read_number


def png(digit: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.uint8(255 * (1 - draw(digit, size=196, pen=8)))).save(file, "png")
    return file.getvalue()


@pytest.fixture
def ask(server):
    """Send a request over one connection; return status, headers and content."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)

    def ask(method, path, body=None, **headers):
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()

    yield ask
    connection.close()


def test_page_is_one_file_that_loads_nothing_from_elsewhere(ask):
    status, headers, content = ask("GET", "/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"default-src 'none'" in content
    assert b"http:" not in content
    assert b"https:" not in content


def test_answer_is_that_of_predict(reference, ask):
    for digit in range(10):
        status, _, content = ask("POST", "/answer/0", png(digit))
        answer, expected = json.loads(content), read_number(reference, io.BytesIO(png(digit))).digits[0]
        assert status == 200
        assert answer["digit"] == str(digit)
        assert answer["image"] == expected.image.flatten().tolist()
        assert answer["probabilities"] == pytest.approx(expected.probabilities)


def test_weights_are_those_of_the_network_with_their_description(reference, ask):
    status, headers, content = ask("GET", "/weights")
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert json.loads(content) == [{"name": "of <a test>", **kernels(reference)}]


@pytest.mark.exhaustive
def test_drawings_that_come_at_once_get_their_own_activations(server, ask):
    path = "/answer/0"
    alone = [json.loads(ask("POST", path, png(digit))[2])["layers"] for digit in range(10)]
    address = f"http://127.0.0.1:{server.server_port}{path}"

    def answer(digit):
        with urllib.request.urlopen(address, png(digit)) as response:
            return json.load(response)["layers"]

    with ThreadPoolExecutor(10) as threads:
        assert list(threads.map(answer, [*range(10)] * 3)) == alone * 3


def test_what_is_no_picture_is_refused_and_the_next_one_answered(ask):
    for body, reason in [(b"", "not a picture"), (b"hello", "not a picture"), (png(3)[:300], "truncated|damaged")]:
        status, _, content = ask("POST", "/answer/0", body)
        assert status == 422
        assert any(word in json.loads(content)["error"] for word in reason.split("|"))
    assert ask("POST", "/answer/0", png(3))[0] == 200


def test_bodies_that_are_too_large_or_of_unknown_length_are_refused_unread(ask):
    assert ask("POST", "/answer/0", b"", **{"Content-Length": "1000001"})[0] == 413
    assert ask("POST", "/answer/0", b"", **{"Content-Length": "1" * 5000})[0] == 413
    for length in ("-1", "1e3", "²", ""):
        assert ask("POST", "/answer/0", b"", **{"Content-Length": length.encode()})[0] == 411


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/train.py"), ("GET", "/../train.py"), ("POST", "/"), ("POST", "/answer/1"), ("GET", "/answer/0")],
)
def test_there_are_no_other_pages(ask, method, path):
    assert ask(method, path)[0] == 404


def test_sites_whose_name_leads_to_this_machine_are_refused(server, ask):
    assert ask("GET", "/", Host="example.com")[0] == 421
    assert ask("POST", "/answer/0", png(3), Host=f"example.com:{server.server_port}")[0] == 421
    assert ask("GET", "/", Host=f"localhost:{server.server_port}")[0] == 200


def test_pages_of_other_sites_are_refused(server, ask):
    assert ask("POST", "/answer/0", png(3), Origin="http://example.com")[0] == 403
    assert ask("POST", "/answer/0", png(3), Origin=f"http://127.0.0.1:{server.server_port}")[0] == 200


def test_it_listens_to_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"


def test_page_that_is_closed_while_it_asks_is_no_error(server, ask, capfd):
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # ends with a reset
            request = f"POST /answer/0 HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nContent-Length: 1000\r\n\r\n"
            connection.sendall(request.encode())
    assert ask("POST", "/answer/0", png(3))[0] == 200
    assert capfd.readouterr().err == ""
