import base64
import hashlib
import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY

import demo
from model import DigitCNN
from own_digits.reader import READING_WEIGHTS


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The addresses that the browser was asked to open."""
    addresses = []
    monkeypatch.setattr("webbrowser.open", lambda address: addresses.append(address) or True)
    return addresses


def test_page_is_written_to_the_current_folder_and_opened(monkeypatch, tmp_path, opened, capsys):
    monkeypatch.chdir(tmp_path)
    assert demo.main([]) == 0
    page = tmp_path / "demo.html"
    assert opened == [page.as_uri()]
    weights = "weights: results/reading/weights.pt, as there is no checkpoints/best.pt"
    assert capsys.readouterr().out.splitlines() == [weights, "Written: demo.html"]
    assert page.stat().st_size < 250_000


def test_page_allows_only_its_own_script_and_style(tmp_path, opened):
    assert demo.main(["--save", str(tmp_path / "page.html"), "--no-browser"]) == 0
    assert opened == []
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "{{" not in page
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)[1]
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for name in ("style", "script"):
        content = re.search(rf"<{name}>(.*?)</{name}>", page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_only_an_earlier_page_is_overwritten(tmp_path, capsys):
    page = tmp_path / "page.html"
    for _ in range(2):
        assert demo.main(["--save", str(page), "--no-browser"]) == 0
    page.write_text("something else")
    assert demo.main(["--save", str(page), "--no-browser"]) == 2
    assert page.read_text() == "something else"
    assert "which this command didn't write: choose another name" in capsys.readouterr().err
    assert demo.main(["--save", str(tmp_path / "page.pt"), "--no-browser"]) == 2
    assert "--save must be the name of a HTML file" in capsys.readouterr().err


def test_checkpoints_are_in_the_order_of_the_command(tmp_path, capsys):
    paths = [Path(shutil.copy(READING_WEIGHTS, tmp_path / name)) for name in ("2.pt", "1.pt")]
    flags = ["--no-browser", "--save", str(tmp_path / "page.html")]
    flags += [flag for path in paths for flag in ("--checkpoint", str(path))]
    assert demo.main(flags) == 0
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"weights: {paths[0]}")
    assert second.startswith(f"weights: {paths[1]}")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert 0 < page.index(f'"name": "{paths[0]}') < page.index(f'"name": "{paths[1]}')
    assert demo.main([*flags, "--checkpoint", str(tmp_path / "3.pt")]) == 2
    assert f"there is no {tmp_path / '3.pt'}" in capsys.readouterr().err


def test_missing_browser_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    assert demo.main(["--save", str(tmp_path / "page.html")]) == 0
    assert f"can't open a browser: open {tmp_path / 'page.html'} yourself" in capsys.readouterr().err


def test_folder_that_cannot_be_written_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert demo.main(["--save", str(tmp_path / "file" / "page.html")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("demo.py: error: can't write ")
    assert err.count("\n") == 1


class Normalised(DigitCNN):
    def forward(self, images):
        return super().forward(2 * images)


class Activated(DigitCNN):
    def forward(self, images):
        return super().forward(images).tanh()


class Same(DigitCNN):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 10, 3, padding="same")
        self.fc1 = torch.nn.Linear(720, 50)


class Empty(torch.nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :10]


class Reflected(DigitCNN):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 10, 5, padding=1, padding_mode="reflect")


@pytest.mark.parametrize("network", [Normalised, Activated, Reflected, Same, Empty])
def test_network_that_the_page_would_compute_wrongly_is_refused_in_one_line(network, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "DigitCNN", network)
    torch.save(network().state_dict(), tmp_path / "weights.pt")
    flags = ["--no-browser", "--save", str(tmp_path / "page.html"), "--checkpoint", str(tmp_path / "weights.pt")]
    assert demo.main(flags) == 2
    err = capsys.readouterr().err
    assert "the network in model.py computes something else" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_page_of_the_docs_is_what_its_command_writes(tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    page = Path("docs/own-digits.md").read_text(encoding="utf-8")
    flags = re.search(r"python demo.py (--checkpoint .*) --save docs/demo.html", page)[1].split()
    assert demo.main([*flags, "--no-browser", "--save", str(tmp_path / "demo.html")]) == 0
    assert Path("docs/demo.html").read_bytes() == (tmp_path / "demo.html").read_bytes()
