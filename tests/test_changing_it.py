"""Each change that docs/changing-it.md shows is made to a copy of the program, which then trains."""

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from test_train import assert_bitwise_equal, run_files

from training.run_files import load_checkpoint

PAGE = (REPOSITORY / "docs" / "changing-it.md").read_text(encoding="utf-8")
SECTIONS = dict(section.split("\n", 1) for section in PAGE.split("\n## ")[1:])
CHANGES = {title: re.findall(r"```diff\n(.*?)```", text, re.DOTALL) for title, text in SECTIONS.items()}

INTERRUPTED_AFTER_ITS_FIRST_EPOCH = """
import train
save = train.save
def save_and_stop(*arguments):
    save(*arguments)
    raise KeyboardInterrupt
train.save = save_and_stop
raise SystemExit(train.main())
"""


def copy_program(folder: Path, title: str = "") -> None:
    """Copy the program to a folder, and make the change with that title, if any, to the copy."""
    folder.mkdir()
    for script in REPOSITORY.glob("*.py"):
        shutil.copy(script, folder)
    for room in ("common", "mnist", "own_digits", "training"):
        shutil.copytree(REPOSITORY / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    if not title:
        return
    (diff,) = CHANGES[title]
    if not shutil.which("git"):
        pytest.skip("wants git, which applies the changes")
    # With a ceiling, git doesn't look for a repository around the folder.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    result = subprocess.run(
        ["git", "apply", "-"], input=diff, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    for name in re.findall(r"^\+\+\+ b/(.*)", diff, re.MULTILINE):
        assert (folder / name).read_bytes() != (REPOSITORY / name).read_bytes()


def run(folder: Path, *arguments: str, exit_code: int = 0) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == exit_code, result.stderr
    return result


@pytest.fixture
def train_changed(small_run, tmp_path):
    """A function that makes a change, trains for an epoch, and returns the last checkpoint."""

    def train(title: str, *flags: str) -> dict:
        copy_program(tmp_path / "program", title)
        run(tmp_path / "program", "train.py", *small_run, "--epochs", "1", *flags)
        return load_checkpoint(tmp_path / "run" / "last.pt")

    return train


@pytest.fixture(scope="module")
def unchanged(data_dir, tmp_path_factory) -> dict:
    """The last checkpoint of an epoch with the program as it is."""
    folder = tmp_path_factory.mktemp("unchanged")
    flags = ["--dataset", "synthetic", "--validation-size", "200", "--batch-size", "64", "--device", "cpu"]
    copy_program(folder / "program")
    run(folder / "program", "train.py", *flags, "--data-dir", str(data_dir), "--output-dir", str(folder), "--epochs=1")
    return load_checkpoint(folder / "last.pt")


def test_page_shows_the_six_changes_each_in_at_most_four_lines(tmp_path):
    assert list(CHANGES) == [
        "Dropout",
        "FashionMNIST",
        "Another optimizer",
        "A cosine schedule",
        "Random erasing",
        "A checkpoint of every epoch",
    ]
    for title, diffs in CHANGES.items():
        (diff,) = diffs
        assert 1 <= len(re.findall(r"^\+(?!\+\+ )", diff, re.MULTILINE)) <= 4, title


@pytest.mark.parametrize("title", CHANGES)
def test_change_applies_to_the_program_as_it_is(title, tmp_path):
    copy_program(tmp_path / "program", title)
    for path in (tmp_path / "program").rglob("*.py"):
        compile(path.read_text(encoding="utf-8"), str(path), "exec")


@pytest.mark.exhaustive
def test_every_epoch_leaves_a_checkpoint(train_changed, tmp_path):
    checkpoint = train_changed("A checkpoint of every epoch")
    assert_bitwise_equal(load_checkpoint(tmp_path / "run" / "epoch-1.pt"), checkpoint)


@pytest.mark.exhaustive
def test_checkpoint_of_an_epoch_evaluates_and_is_archived_by_the_next_run(train_changed, small_run, tmp_path):
    first = tmp_path / "run" / "epoch-1.pt"
    train_changed("A checkpoint of every epoch")
    content = first.read_bytes()
    data_dir = small_run[small_run.index("--data-dir") + 1]
    run(tmp_path / "program", "evaluate.py", str(first), "--data-dir", data_dir, "--device", "cpu")
    run(tmp_path / "program", "train.py", *small_run, "--epochs", "1", "--seed", "1")
    (archived,) = (tmp_path / "run" / "archive").glob("*/epoch-1.pt")
    assert archived.read_bytes() == content != first.read_bytes()


@pytest.mark.exhaustive
@pytest.mark.parametrize("title", ["Dropout", "Random erasing"])
def test_interrupted_and_resumed_run_is_bitwise_the_uninterrupted_one(title, small_run, tmp_path, unchanged):
    copy_program(tmp_path / "program", title)
    program, folder, flags = tmp_path / "program", tmp_path / "run", [*small_run, "--epochs", "2"]
    run(program, "train.py", *flags)
    uninterrupted = run_files(folder)
    assert uninterrupted[0][1]["history"][0]["train_loss"] != unchanged["history"][0]["train_loss"]
    run(program, "-c", INTERRUPTED_AFTER_ITS_FIRST_EPOCH, *flags, exit_code=130)
    assert load_checkpoint(folder / "last.pt")["epoch"] == 1
    run(program, "train.py", *flags, "--resume")
    assert_bitwise_equal(run_files(folder), uninterrupted)


@pytest.mark.exhaustive
def test_fashion_mnist_is_read_from_its_own_folder(train_changed, data_dir, tmp_path, unchanged):
    shutil.copytree(data_dir / "SyntheticMNIST" / "raw", tmp_path / "data" / "FashionMNIST" / "raw")
    checkpoint = train_changed("FashionMNIST", "--dataset", "fashion", "--data-dir", str(tmp_path / "data"))
    assert checkpoint["dataset"] == {**unchanged["dataset"], "name": "fashion"}
    assert_bitwise_equal(checkpoint["model"], unchanged["model"])  # for these are the same images
    best = str(tmp_path / "run" / "best.pt")
    run(tmp_path / "program", "evaluate.py", best, "--data-dir", str(tmp_path / "data"), "--device", "cpu")


@pytest.mark.exhaustive
def test_other_optimizer_trains_with_the_flags_that_the_page_gives(train_changed, unchanged):
    flags = re.search(r"python train.py (.*?)`", SECTIONS["Another optimizer"])[1].split()
    checkpoint = train_changed("Another optimizer", *flags)
    (group,) = checkpoint["optimizer"]["param_groups"]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 0.0005)
    assert checkpoint["history"][0]["learning_rate"] == pytest.approx(0.1 * (0.5 / 13) / 0.8)  # the last of 13 steps
    assert all("momentum_buffer" in state for state in checkpoint["optimizer"]["state"].values())
    assert not torch.equal(checkpoint["model"]["fc2.bias"], unchanged["model"]["fc2.bias"])


@pytest.mark.exhaustive
def test_cosine_schedule_falls_along_the_cosine(train_changed):
    checkpoint = train_changed("A cosine schedule", "--schedule", "cosine", "--epochs", "2", "--learning-rate", "0.001")
    # An epoch has 13 steps, and its rate is that of the last one, in its middle: 13.5 and 0.5 of 26 are missing then.
    expected = [0.001 * math.sin(math.pi / 2 * missing / 26) ** 2 for missing in (13.5, 0.5)]
    assert [epoch["learning_rate"] for epoch in checkpoint["history"]] == pytest.approx(expected)
