import shutil
import signal
import subprocess
import sys

from conftest import REPOSITORY

import demo
from own_digits.reader import READING_WEIGHTS


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


def test_checkpoints_are_served_in_the_order_of_the_command(monkeypatch, tmp_path, capsys):
    paths = [shutil.copy(READING_WEIGHTS, tmp_path / name) for name in ("2.pt", "1.pt")]
    served = []
    monkeypatch.setattr(demo.Server, "serve_forever", lambda self: served.extend(self.models))
    flags = ["--no-browser", "--port", "0", *(flag for path in paths for flag in ("--checkpoint", str(path)))]
    assert demo.main(flags) == 0
    assert served == ["/answer/0", "/answer/1"]
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"weights: {paths[0]}")
    assert second.startswith(f"weights: {paths[1]}")
    assert demo.main([*flags, "--checkpoint", str(tmp_path / "3.pt")]) == 2
    assert f"there is no {tmp_path / '3.pt'}" in capsys.readouterr().err
