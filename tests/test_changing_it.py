"""Each change that docs/changing-it.md shows is made to a copy of the program, which then trains."""

import importlib.util
import json
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
from torchvision.datasets import FashionMNIST

from mnist.synthetic import SyntheticMNIST
from model import DigitCNN
from training.run_files import load_checkpoint

PAGE = (REPOSITORY / "docs" / "changing-it.md").read_text(encoding="utf-8")
SECTIONS = dict(section.split("\n", 1) for section in PAGE.split("\n## ")[1:])
CHANGES = {title: re.findall(r"```diff\n(.*?)```", text, re.DOTALL) for title, text in SECTIONS.items()}
CHANGES = {title: diffs for title, diffs in CHANGES.items() if diffs}

INTERRUPTED_AFTER_ITS_FIRST_EPOCH = """
import train
save = train.save
def save_and_stop(*arguments):
    save(*arguments)
    raise KeyboardInterrupt
train.save = save_and_stop
raise SystemExit(train.main())
"""

PRINT_ALL_FOLDS = """
import sys
from pathlib import Path
from mnist.dataset import load_data
from training.config import TrainConfig
for fold in range(5):
    images, labels = load_data(TrainConfig(dataset="synthetic", fold=fold), Path(sys.argv[1])).validation.tensors
    print(*(image.numpy().tobytes().hex() for image in images))
"""


def copy_program(folder: Path, title: str = "", without_last_break: bool = False) -> None:
    """Copy the program to a folder, and make the change with that title, if any, to the copy."""
    folder.mkdir()
    for script in REPOSITORY.glob("*.py"):
        shutil.copy(script, folder)
    for room in ("common", "mnist", "own_digits", "training"):
        shutil.copytree(REPOSITORY / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    if not title:
        return
    (diff,) = CHANGES[title]
    diff = diff.removesuffix("\n") if without_last_break else diff
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


def test_page_shows_the_changes_each_in_at_most_eight_lines(tmp_path):
    assert list(CHANGES) == [
        "Dropout",
        "Batch normalisation, 16 and 32 channels",
        "More classes",
        "FashionMNIST",
        "Another optimizer",
        "A cosine schedule",
        "Early stopping",
        "K-fold cross-validation",
        "TensorBoard",
        "Random erasing",
        "A checkpoint of every epoch",
    ]
    for title, diffs in CHANGES.items():
        (diff,) = diffs
        assert 1 <= len(re.findall(r"^\+(?!\+\+ )", diff, re.MULTILINE)) <= 8, title


@pytest.mark.parametrize("title", CHANGES)
def test_change_applies_to_the_program_as_it_is_whatever_the_editor_does_to_its_last_line_break(title, tmp_path):
    copy_program(tmp_path / "program", title, without_last_break=True)
    copy_program(tmp_path / "again", title)
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
    assert checkpoint["dataset"] == {**unchanged["dataset"], "name": "fashion", "classes": FashionMNIST.classes}
    assert_bitwise_equal(checkpoint["model"], unchanged["model"])  # for these are the same images
    best = str(tmp_path / "run" / "best.pt")
    run(tmp_path / "program", "evaluate.py", best, "--data-dir", str(tmp_path / "data"), "--device", "cpu")


@pytest.mark.exhaustive
def test_other_optimizer_trains_with_the_flags_that_the_page_gives(train_changed, unchanged):
    flags = re.search(r"python train.py (.*?)`", SECTIONS["Another optimizer"], re.DOTALL)[1].split()
    checkpoint = train_changed("Another optimizer", *flags)
    (group,) = checkpoint["optimizer"]["param_groups"]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 0.0005)
    assert checkpoint["history"][0]["learning_rate"] == pytest.approx(0.03 * (0.5 / 13) / 0.8)  # the last of 13 steps
    assert all("momentum_buffer" in state for state in checkpoint["optimizer"]["state"].values())
    assert not torch.equal(checkpoint["model"]["fc2.bias"], unchanged["model"]["fc2.bias"])


@pytest.mark.exhaustive
def test_cosine_schedule_falls_along_the_cosine(train_changed):
    checkpoint = train_changed("A cosine schedule", "--schedule", "cosine", "--epochs", "2", "--learning-rate", "0.001")
    # An epoch has 13 steps, and its rate is that of the last one, in its middle: 13.5 and 0.5 of 26 are missing then.
    expected = [0.001 * math.sin(math.pi / 2 * missing / 26) ** 2 for missing in (13.5, 0.5)]
    assert [epoch["learning_rate"] for epoch in checkpoint["history"]] == pytest.approx(expected)


@pytest.mark.exhaustive
def test_batch_norm_and_other_widths_train_resume_evaluate_and_read_pictures(small_run, tmp_path):
    copy_program(tmp_path / "program", "Batch normalisation, 16 and 32 channels")
    program, folder, flags = tmp_path / "program", tmp_path / "run", [*small_run, "--epochs", "2"]
    run(program, "train.py", *flags)
    uninterrupted = run_files(folder)
    averaged = load_checkpoint(folder / "best.pt")["averaged_model"]
    assert averaged["conv2.weight"].shape == (32, 16, 5, 5)
    assert not torch.equal(averaged["norm1.running_var"], torch.ones(16))
    run(program, "-c", INTERRUPTED_AFTER_ITS_FIRST_EPOCH, *flags, exit_code=130)
    run(program, "train.py", *flags, "--resume")
    assert_bitwise_equal(run_files(folder), uninterrupted)
    data_dir, best = small_run[small_run.index("--data-dir") + 1], str(folder / "best.pt")
    pictures = ["--pictures", str(tmp_path / "pictures")]
    assert "filters.png" in run(program, "evaluate.py", best, "--data-dir", data_dir, *pictures).stdout
    seven = str(REPOSITORY / "results" / "digits" / "seven.png")
    assert "seven.png" in run(program, "predict.py", seven, "--checkpoint", best).stdout
    shutil.copytree(REPOSITORY / "results" / "reading", program / "results" / "reading")
    result = run(program, "predict.py", seven, exit_code=2)  # whose weights are of the network as it was
    assert "doesn't fit the network in model.py" in result.stderr
    result = run(program, "demo.py", "--no-browser", "--checkpoint", best, exit_code=2)  # batch normalisation
    assert "error: the demo page can only show networks of convolutions" in result.stderr


@pytest.mark.exhaustive
def test_network_with_26_outputs_wants_data_of_26_classes(small_run, tmp_path):
    copy_program(tmp_path / "program", "More classes")
    result = run(tmp_path / "program", "train.py", *small_run, exit_code=2)
    assert "the network has 26 outputs, but synthetic has 10 classes" in result.stderr


@pytest.mark.exhaustive
def test_early_stopping_stops_once_and_a_resumed_run_stays_stopped(small_run, tmp_path):
    copy_program(tmp_path / "program", "Early stopping")
    flags = [*small_run, "--epochs", "30", "--patience", "2", "--learning-rate", "0.01", "--schedule", "constant"]
    out = run(tmp_path / "program", "train.py", *flags).stdout
    assert "Stopped: the last 2 epochs were not better than the best one.\n" in out
    history = load_checkpoint(tmp_path / "run" / "last.pt")["history"]
    accuracies = [(epoch["validation_accuracy"], -epoch["validation_loss"]) for epoch in history]
    assert len(history) < 30
    assert accuracies.index(max(accuracies)) == len(history) - 3
    run(tmp_path / "program", "train.py", *flags, "--resume")
    assert load_checkpoint(tmp_path / "run" / "last.pt")["history"] == history


@pytest.mark.exhaustive
def test_folds_hold_out_each_image_once_and_evaluate_scores_those_that_training_did(data_dir, tmp_path):
    copy_program(tmp_path / "program", "K-fold cross-validation")
    common = ["--dataset", "synthetic", "--device", "cpu", "--data-dir", str(data_dir), "--epochs", "1"]
    accuracies = []
    for fold in (0, 3):
        folder = tmp_path / str(fold)
        run(tmp_path / "program", "train.py", *common, "--fold", str(fold), "--output-dir", str(folder))
        best = load_checkpoint(folder / "best.pt")
        assert best["dataset"]["images"] == {"train": 800, "validation": 200, "test": 300}
        flags = [
            str(folder / "best.pt"),
            "--data-dir",
            str(data_dir),
            "--split",
            "validation",
            "--device",
            "cpu",
            "--json",
        ]
        answer = json.loads(run(tmp_path / "program", "evaluate.py", *flags).stdout)
        (epoch,) = best["history"]
        assert (answer["accuracy"], answer["loss"]) == (epoch["validation_accuracy"], epoch["validation_loss"])
        accuracies.append(answer["loss"])
    assert accuracies[0] != accuracies[1]
    result = run(tmp_path / "program", "-c", PRINT_ALL_FOLDS, str(data_dir))
    whole = [image.numpy().tobytes().hex() for image in SyntheticMNIST(data_dir).data]
    assert sorted(result.stdout.split()) == sorted(whole)


@pytest.mark.exhaustive
def test_tensorboard_gets_the_metrics_of_every_epoch(small_run, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    copy_program(tmp_path / "program", "TensorBoard")
    run(tmp_path / "program", "train.py", *small_run, "--epochs", "2")
    (folder,) = (tmp_path / "run" / "tensorboard").iterdir()
    board = EventAccumulator(str(folder)).Reload()
    history = load_checkpoint(tmp_path / "run" / "last.pt")["history"]
    assert set(board.Tags()["scalars"]) == set(history[0])
    for name in history[0]:
        values = [(event.step, event.value) for event in board.Scalars(name)]
        assert values == [(epoch["epoch"], pytest.approx(epoch[name])) for epoch in history]  # float32


@pytest.mark.exhaustive
@pytest.mark.parametrize("first", ["Batch normalisation, 16 and 32 channels"])
def test_changes_of_different_lines_can_be_made_together(first, tmp_path, small_run):
    copy_program(tmp_path / "program", first)
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path)}
    for title in ("Another optimizer", "Early stopping", "TensorBoard", "FashionMNIST"):
        subprocess.run(
            ["git", "apply", "-"],
            input=CHANGES[title][0],
            text=True,
            check=True,
            cwd=tmp_path / "program",
            env=environment,
        )
    if importlib.util.find_spec("tensorboard"):
        run(tmp_path / "program", "train.py", *small_run, "--epochs", "1", "--learning-rate", "0.05")


@pytest.mark.exhaustive
def test_network_is_exported_as_the_page_shows(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", SECTIONS["Export"], re.DOTALL)
    copy_program(tmp_path / "program")
    (tmp_path / "program" / "checkpoints").mkdir()
    weights = torch.load(REPOSITORY / "results" / "default" / "weights.pt")
    torch.save({"averaged_model": weights}, tmp_path / "program" / "checkpoints" / "best.pt")
    if not importlib.util.find_spec("onnxscript"):
        code = "\n".join(line for line in code.splitlines() if "onnx" not in line)
    run(tmp_path / "program", "-c", code)
    model = DigitCNN().eval()
    model.load_state_dict(weights)
    images = torch.rand(5, 1, 28, 28)
    exported = torch.export.load(tmp_path / "program" / "digits.pt2").module()
    torch.testing.assert_close(exported(images), model(images), rtol=0, atol=6e-5)
