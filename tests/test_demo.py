import signal
import subprocess
import sys

from conftest import REPOSITORY

import demo


def test_port_that_is_taken_is_told_in_one_line(server, capsys):
    assert demo.main(["--no-browser", "--port", str(server.server_port)]) == 2
    assert f"can't listen on port {server.server_port} " in capsys.readouterr().err


def test_command_says_weights_and_address_and_ends_with_ctrl_c():
    command = [sys.executable, "demo.py", "--port", "0", "--no-browser"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith("weights: ")
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == "demo.py: interrupted\n"


def test_browser_is_opened_at_the_address(monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(demo.Server, "serve_forever", lambda self: opened.append(self.server_port))
    demo.main(["--port", "0"])
    assert opened[0] == f"http://127.0.0.1:{opened[1]}/"
