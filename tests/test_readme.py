"""The front page and the pages of docs/ say what is true: tables, commands' flags, files, links, answers."""

import re
import subprocess
import sys
import textwrap

import pytest
from conftest import REPOSITORY

import demo
import evaluate
import plot_results
import predict
import sweep
import train
from model import DigitCNN
from training.metrics import read_metrics
from training.run_files import load_weights

PAGES = {path: path.read_text(encoding="utf-8") for path in [REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")]}
README, DOCS = PAGES[REPOSITORY / "README.md"], "\n".join(PAGES.values())


def page(name: str) -> str:
    return PAGES[REPOSITORY / name]


def test_front_page_is_short_and_begins_with_the_three_commands():
    assert len(README.splitlines()) <= 130
    assert re.findall(r"^    (.*)$", README, re.MULTILINE)[1:4] == [  # after git clone
        "pip install -r requirements.txt && python train.py --epochs 10",
        "python evaluate.py checkpoints/best.pt",
        "python plot_results.py",
    ]


@pytest.mark.parametrize("script", [train, evaluate, plot_results, sweep, predict, demo])
def test_every_flag_is_named(capsys, script):
    with pytest.raises(SystemExit):
        script.main(["--help"])
    flags = set(re.findall(r"--[a-z][a-z0-9-]*", capsys.readouterr().out)) - {"--help"}
    assert flags
    assert [flag for flag in flags if not re.search(rf"`[^`\n]*{flag}\b(?!-)", DOCS)] == []


def test_every_module_at_the_root_and_every_room_is_named():
    names = [path.name for path in REPOSITORY.glob("*.py")]
    names += [f"{path.parent.name}/" for path in REPOSITORY.glob("*/__init__.py")]
    assert [name for name in names if f"`{name}`" not in README] == []


def test_every_python_file_that_is_named_exists():
    files = [path for pattern in ("*.py", "*/*.py", "tests/*/*.py") for path in REPOSITORY.glob(pattern)]
    ends = tuple(f"/{path.relative_to(REPOSITORY).as_posix()}" for path in files)
    named = set(re.findall(r"`([\w/]+\.py)`", DOCS))
    named -= {"make_dataset.py"}  # which docs/own-data.md tells the reader to make
    assert [name for name in named if not any(end.endswith(f"/{name}") for end in ends)] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_and_picture_exists(path):
    links = re.findall(r'\]\(([^)#\s]+)|src="([^"]+)"', PAGES[path])
    relative = [link or picture for link, picture in links if not (link or picture).startswith("http")]
    assert [link for link in relative if not (path.parent / link).exists()] == []


def test_there_are_at_most_eight_pages_of_850_lines_in_all():
    pages = [text for path, text in PAGES.items() if path.parent.name == "docs"]
    assert len(pages) <= 8
    assert sum(len(text.splitlines()) for text in pages) <= 850


def test_every_page_of_docs_is_linked_from_the_front_page():
    assert [path.name for path in REPOSITORY.glob("docs/*.md") if f"(docs/{path.name})" not in README] == []


def test_tables_of_speed_are_those_of_the_benchmarks():
    measured = "".join((REPOSITORY / "results" / name).read_text(encoding="utf-8") for name in ("speed.md", "gpu.md"))
    tables = re.findall(r"(?:^\|.*\n)+", page("docs/speed.md"), re.MULTILINE)
    assert len(tables) == 3
    assert [table for table in tables if table not in measured] == []


def test_calibration_is_that_of_the_benchmark():
    last_line = (REPOSITORY / "results" / "pictures.md").read_text(encoding="utf-8").splitlines()[-1]
    text = " ".join(page("docs/own-digits.md").split())
    numbers = re.search(r"all (.*) pictures drawn again, (.*) claim at least 99%, and (.*) of those", last_line)
    assert all(number in text for number in numbers.groups())


def test_share_of_numbers_that_are_read_is_that_of_the_benchmark():
    table = (REPOSITORY / "results" / "pictures.md").read_text(encoding="utf-8")

    def shares(kind: str) -> str:
        found = sorted(set(re.findall(rf"^\| five digits{kind} \| (\d+)\.00% ", table, re.MULTILINE)), key=int)
        return f"{found[0]}%" if len(found) == 1 else f"{found[0]}% to {found[-1]}%"

    text = " ".join(page("docs/own-digits.md").split())
    clean, hard, touching = shares(", gaps of .*"), shares(": .*"), shares(" that touch.*")
    assert f"don't touch, {clean} are read without a mistake on clean paper, and {hard} on ruled" in text
    assert f"whose digits touch, {touching} are." in text


def test_accuracy_of_the_reading_weights_is_that_of_their_run():
    last = read_metrics(REPOSITORY / "results" / "reading" / "metrics.csv")[-1]
    recipe = (REPOSITORY / "results" / "default" / "results.md").read_text(encoding="utf-8")
    text = " ".join(page("docs/own-digits.md").split())
    numbers = re.search(r"about as well: (.*) of the test images, compared with (.*?%) for ten epochs", text)
    assert numbers[1] == f"{last.test_accuracy:.2%}"
    assert f"test accuracy {numbers[2]} " in recipe


@pytest.mark.parametrize(("card", "run"), [("default", "default/default/seed-0"), ("reading", "reading")])
def test_model_cards_give_the_accuracy_of_their_runs_in_fifteen_lines(card, run):
    text = (REPOSITORY / "results" / card / "README.md").read_text(encoding="utf-8")
    last = read_metrics(REPOSITORY / "results" / run / "metrics.csv")[-1]  # both weights are of the last epoch
    assert f"{last.test_accuracy:.2%} of MNIST's 10,000 test images" in text
    assert len(text.splitlines()) <= 15


@pytest.mark.parametrize("name", ["README.md", "docs/own-digits.md"])
def test_answers_are_those_of_the_pictures(capsys, monkeypatch, tmp_path, name):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr("own_digits.reader.OWN_CHECKPOINT", tmp_path / "best.pt")  # there is none
    files = re.search(r"python predict.py (results/.*) --preview", page(name))[1].split()
    assert predict.main(files) == 0
    _, table = capsys.readouterr().out.split("\n\n")
    assert textwrap.indent(table, "    ") in page(name)


def test_lines_for_ones_own_code_give_probabilities(small_run, tmp_path, monkeypatch):
    assert train.main([*small_run, "--epochs", "1", "--output-dir", str(tmp_path / "checkpoints")]) == 0
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(re.search(r"```python\n(.*?)```", README, re.DOTALL)[1], names)
    assert names["probabilities"].shape == (1, 10)
    load_weights(tmp_path / "checkpoints" / "best.pt", model := DigitCNN())
    assert all(weight.equal(names["model"].state_dict()[name]) for name, weight in model.state_dict().items())


WITHOUT_WHAT_WINDOWS_LACKS = """
import multiprocessing, signal, sys
import torch  # which uses some of it
sys.modules.update(dict.fromkeys(["resource", "fcntl", "pwd", "grp", "termios"]))
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGXFSZ"):
    delattr(signal, name)
multiprocessing.get_all_start_methods = lambda: ["spawn"]
import pytest
raise SystemExit(pytest.main(["--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider"]))
"""


@pytest.mark.exhaustive
def test_tests_are_found_on_a_system_without_what_windows_lacks():
    command = [sys.executable, "-c", WITHOUT_WHAT_WINDOWS_LACKS]
    process = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout[-2000:]
    assert "error" not in process.stdout.splitlines()[-1]
