import hashlib
import json
import math
import os
import pickle
import random
import shutil
import subprocess
import zipfile
from dataclasses import asdict

import pytest
import torch
from conftest import REPOSITORY
from torch.optim.swa_utils import AveragedModel

import demo
import evaluate
import predict
import train
from common.command_line import UserError
from model import DigitCNN
from own_digits.reader import load_best_weights
from training import run_files
from training.config import TrainConfig
from training.metrics import EpochMetrics, read_metrics
from training.run_files import archive, find_run, git_commit, hash_code, load_checkpoint, load_weights, save, serialize


@pytest.fixture
def checkpoint() -> dict:
    weights = DigitCNN().state_dict()
    return {
        "epoch": 1,
        "config": asdict(TrainConfig()),
        "dataset": {},
        "history": [],
        "model": weights,
        "averaged_model": {name: w + 1 for name, w in weights.items()},
        "best_model": {name: w + 2 for name, w in weights.items()},
        "optimizer": torch.optim.AdamW(DigitCNN().parameters()).state_dict(),
        "optimizer_class": "AdamW",
    }


def same(loaded: dict, saved: dict) -> bool:
    return loaded.keys() == saved.keys() and all(
        loaded[part].keys() == saved[part].keys()
        and all(torch.equal(loaded[part][name], saved[part][name]) for name in saved[part])
        for part in ("model", "averaged_model")
    )


def test_round_trip_is_bitwise(checkpoint, tmp_path):
    (tmp_path / "last.pt").write_bytes(serialize(checkpoint))
    assert same(load_checkpoint(tmp_path / "last.pt"), checkpoint)


def test_checkpoint_saved_again_by_plain_torch_save_loads(checkpoint, tmp_path):
    (tmp_path / "last.pt").write_bytes(serialize(checkpoint))
    torch.save(torch.load(tmp_path / "last.pt", weights_only=True), tmp_path / "again.pt")
    assert same(load_checkpoint(tmp_path / "again.pt"), checkpoint)


def test_model_of_a_checkpoint_has_the_averaged_weights(checkpoint, tmp_path):
    (tmp_path / "best.pt").write_bytes(serialize(checkpoint))
    loaded = load_weights(tmp_path / "best.pt", model := DigitCNN())
    assert torch.equal(model.fc2.bias, checkpoint["averaged_model"]["fc2.bias"])
    assert not torch.equal(model.fc2.bias, checkpoint["model"]["fc2.bias"])
    assert loaded["epoch"] == 1


def test_model_of_a_plain_state_dict_has_its_weights(tmp_path):
    weights = DigitCNN().state_dict()
    torch.save(weights, tmp_path / "weights.pt")
    loaded = load_weights(tmp_path / "weights.pt", model := DigitCNN())
    assert all(torch.equal(model.state_dict()[name], weights[name]) for name in weights)
    assert loaded == {}


def refused(path) -> bool:
    """Return whether the file is refused in one line; any other error fails the test."""
    try:
        load_checkpoint(path)
    except UserError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
        return True
    return False


class Call:
    """A value whose pickle calls a function when it is loaded."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


CALLS = {
    "open": lambda owned: Call(open, owned, "w"),
    "os.system": lambda owned: Call(os.system, f"touch '{owned}'"),
    "subprocess": lambda owned: Call(subprocess.check_call, ["touch", owned]),
    "eval": lambda owned: Call(eval, f"open({owned!r}, 'w')"),
    "exec": lambda owned: Call(exec, f"open({owned!r}, 'w')"),
    "torch.save": lambda owned: Call(torch.save, 1, owned),
    "pickle.loads": lambda owned: Call(pickle.loads, pickle.dumps(Call(open, owned, "w"))),
}


PLACES = {
    "everything": lambda checkpoint, value: value,
    "model": lambda checkpoint, value: {**checkpoint, "model": value},
    "optimizer": lambda checkpoint, value: {**checkpoint, "optimizer": {**checkpoint["optimizer"], "state": value}},
    "epoch": lambda checkpoint, value: {**checkpoint, "epoch": value},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("place", PLACES)
def test_code_in_a_checkpoint_is_refused_and_not_run(checkpoint, tmp_path, call, place):
    malicious = PLACES[place](checkpoint, CALLS[call](str(tmp_path / "owned")))
    for content in (serialize(malicious), pickle.dumps(malicious)):
        (tmp_path / "best.pt").write_bytes(content)
        assert refused(tmp_path / "best.pt")
    assert not (tmp_path / "owned").exists()
    pickle.loads(content)  # without that, it would have been
    assert (tmp_path / "owned").exists()


def mutations(content: bytes, count: int):
    """Yield damaged copies of the content: truncated, bytes flipped, zeroed, cut out, put in, swapped."""
    choose = random.Random(0)
    for number in range(count):
        start = choose.randrange(len(content))
        # Nine tenths of the bytes are weights; most of the faults shall hit the rest.
        if number % 2:
            start = choose.choice([choose.randrange(3000), len(content) - 1 - choose.randrange(6000)])
        length = min(choose.choice([1, 1, 1, 2, 16, 1000, 100_000]), len(content) - start)
        piece = content[start : start + length]
        kind = number % 7
        if kind == 0:
            yield content[:start]
        elif kind in (1, 2):
            yield content[:start] + bytes(byte ^ 1 << choose.randrange(8) for byte in piece) + content[start + length :]
        elif kind == 3:
            yield content[:start] + bytes(byte ^ 0xFF for byte in piece) + content[start + length :]
        elif kind == 4:
            yield content[:start] + content[start + length :]
        elif kind == 5:
            yield content[:start] + choose.randbytes(length) + content[start:]
        else:
            yield content[start:] + content[:start]


def test_damaged_file_is_refused_in_one_line_or_holds_what_was_saved(checkpoint, tmp_path, exhaustive):
    content, count, loaded = serialize(checkpoint), 2000 if exhaustive else 100, 0
    for mutated in mutations(content, count):
        (tmp_path / "best.pt").write_bytes(mutated)
        if not refused(tmp_path / "best.pt"):
            loaded += 1
            assert same(load_checkpoint(tmp_path / "best.pt"), checkpoint)
    assert loaded < count / 4  # the checksums of ZIP don't cover the names and the padding between its parts


def test_compressed_file_which_may_be_a_zip_bomb_is_refused(checkpoint, tmp_path):
    (tmp_path / "best.pt").write_bytes(serialize(checkpoint))
    with (
        zipfile.ZipFile(tmp_path / "best.pt") as whole,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name))
    assert not refused(tmp_path / "best.pt")
    assert refused(tmp_path / "bomb.pt")


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 1000, -1])
def test_truncated_checkpoint_is_refused(checkpoint, tmp_path, length):
    (tmp_path / "last.pt").write_bytes(serialize(checkpoint)[:length])
    assert refused(tmp_path / "last.pt")


def test_bad_checkpoint_ends_every_script_with_exit_code_2(checkpoint, tmp_path, capsys):
    (tmp_path / "last.pt").write_bytes(serialize(checkpoint)[:-1])
    assert evaluate.main([str(tmp_path / "last.pt")]) == 2
    assert train.main(["--resume", "--output-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_missing_file_folder_and_foreign_content_are_refused_in_one_line(tmp_path, capsys):
    torch.save([1], tmp_path / "list.pt")
    torch.save(DigitCNN(), tmp_path / "network.pt")
    torch.save(DigitCNN().state_dict(), tmp_path / "last.pt")
    for file, message in {
        "best.pt": f"there is no {tmp_path / 'best.pt'}: train first (python train.py)",
        ".": f"{tmp_path} is a folder: give a file in it, such as {tmp_path / 'last.pt'}",
        "list.pt": "list.pt holds a list, not a checkpoint or state_dict",
        "network.pt": "perhaps a whole model: save its weights alone, with torch.save(model.state_dict(), FILE)",
    }.items():
        assert evaluate.main([str(tmp_path / file)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    with pytest.raises(
        UserError, match="last.pt was written by another version of train.py"
    ):  # weights alone don't resume
        find_run(tmp_path, {}, None)


@pytest.mark.parametrize("change", [{"fc2.bias": torch.zeros(11)}, {"fc3.bias": torch.zeros(1)}], ids=str)
def test_weights_of_another_network_are_refused_in_one_line(checkpoint, small_run, tmp_path, capsys, change):
    checkpoint["averaged_model"] = {**checkpoint["averaged_model"], **change}
    (tmp_path / "best.pt").write_bytes(serialize(checkpoint))
    assert evaluate.main([str(tmp_path / "best.pt")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "doesn't fit the network in model.py" in error
    assert train.main([*small_run, "--epochs", "1"]) == 0
    last = tmp_path / "run" / "last.pt"
    last.write_bytes(serialize({**load_checkpoint(last), "averaged_model": checkpoint["averaged_model"]}))
    capsys.readouterr()
    assert train.main([*small_run, "--epochs", "1", "--resume"]) == 2
    assert "can't resume: last.pt belongs to a different network" in capsys.readouterr().err


def test_setting_that_an_older_checkpoint_lacks_takes_its_default_and_an_unknown_one_is_an_error(checkpoint, tmp_path):
    del checkpoint["config"]["label_smoothing"]
    (tmp_path / "last.pt").write_bytes(serialize(checkpoint))
    assert find_run(tmp_path, {}, None)["config"] == asdict(TrainConfig())
    checkpoint["config"]["momentum"] = 0.9
    (tmp_path / "last.pt").write_bytes(serialize(checkpoint))
    with pytest.raises(UserError, match="last.pt was written by another version .*momentum"):
        find_run(tmp_path, {}, None)


def epoch(number, accuracy, loss=0.1) -> EpochMetrics:
    return EpochMetrics(number, 0.01, 0.1, 0.9, loss, accuracy, 0.1, 0.5, 1.0)


RUN = {"config": asdict(TrainConfig()), "dataset": {"name": "mnist"}}


def save_run(folder, history) -> dict:
    """Save a run with that history; return the weights of its best epoch."""
    model, average, best = DigitCNN(), DigitCNN(), DigitCNN().state_dict()
    stateful = {"model": model, "averaged_model": average, "optimizer": torch.optim.AdamW(model.parameters())}
    failed = save(folder, RUN, history, best, stateful)
    assert failed == ""
    return best


def assert_best_is(folder, number, weights, history):
    """best.pt is that epoch of metrics.csv, with those weights, and last.pt has all that it is made of."""
    best, last = load_checkpoint(folder / "best.pt"), load_checkpoint(folder / "last.pt")
    assert read_metrics(folder / "metrics.csv") == history
    assert last["history"] == [asdict(row) for row in history]
    assert best["history"] == last["history"][:number]
    assert best["epoch"] == number
    for name, weight in weights.items():
        assert torch.equal(best["averaged_model"][name], weight)
        assert torch.equal(last["best_model"][name], weight)


def test_everything_else_follows_from_last_pt(tmp_path):
    history = [epoch(1, 0.9), epoch(2, 0.95), epoch(3, 0.93)]
    (tmp_path / "best.pt").write_bytes(b"of another run")
    weights = save_run(tmp_path, history)
    assert_best_is(tmp_path, 2, weights, history)
    assert json.loads((tmp_path / "run.json").read_text()) == RUN
    assert load_checkpoint(tmp_path / "best.pt").keys() == {"averaged_model", "epoch", "history", *RUN}
    state = {"model", "averaged_model", "best_model", "optimizer", "optimizer_class", "epoch", "history"}
    assert load_checkpoint(tmp_path / "last.pt").keys() == {*state, *RUN}


def test_without_validation_images_best_pt_is_the_last_epoch(tmp_path):
    history = [epoch(1, None, None), epoch(2, None, None)]
    assert_best_is(tmp_path, 2, save_run(tmp_path, history), history)


@pytest.mark.parametrize("name", ["best.pt", "metrics.csv", "run.json"])
def test_file_that_is_open_in_another_program_is_told_and_the_others_are_written(tmp_path, monkeypatch, name):
    write, history = run_files.write_atomically, [epoch(1, 0.9)]

    def refuse(path, content):
        if path.name == name:
            raise UserError(f"can't write {path}: Permission denied")
        write(path, content)

    monkeypatch.setattr(run_files, "write_atomically", refuse)
    with pytest.raises(AssertionError, match=f"can't write .*{name}: Permission denied"):
        save_run(tmp_path, history)
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "best.pt", "metrics.csv", "run.json"} - {name}
    monkeypatch.undo()
    assert_best_is(tmp_path, 1, save_run(tmp_path, history), history)


def test_last_pt_that_cannot_be_written_is_an_error_and_changes_no_other_file(tmp_path):
    (tmp_path / "last.pt").mkdir()
    with pytest.raises(UserError, match="can't write .*last.pt"):
        save_run(tmp_path, [epoch(1, 0.9)])
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_archive_takes_the_files_of_the_run_alone_and_last_pt_stays_until_it_is_replaced(tmp_path):
    for _ in range(2):
        for name in ("last.pt", "best.pt", "notes.txt"):
            (tmp_path / name).write_text("kept")
        archive(tmp_path)
    # Were best.pt still there, a run that dies in its first save would have another run's beside its last.pt.
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "notes.txt", "archive"}
    folders = list((tmp_path / "archive").iterdir())
    assert len(folders) == 2
    assert all({file.name for file in folder.iterdir()} == {"last.pt", "best.pt"} for folder in folders)


def test_without_a_run_nothing_is_archived(tmp_path):
    archive(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_archive_is_whole_or_not_there(tmp_path, monkeypatch):
    for name in ("last.pt", "best.pt", "metrics.csv"):
        (tmp_path / name).write_text("kept")
    write = run_files.write_atomically

    def fail_at_metrics(path, content):
        if path.name == "metrics.csv":
            raise UserError("the disk is full")
        write(path, content)

    monkeypatch.setattr(run_files, "write_atomically", fail_at_metrics)
    with pytest.raises(UserError, match="full"):
        archive(tmp_path)
    assert [path.suffix for path in (tmp_path / "archive").iterdir()] == [".tmp"]
    assert all((tmp_path / name).read_text() == "kept" for name in ("last.pt", "best.pt", "metrics.csv"))


def test_older_last_pt_takes_the_best_weights_from_the_best_pt_beside_it(checkpoint, tmp_path):
    history = [asdict(row) for row in (epoch(1, 0.9), epoch(2, 0.95), epoch(3, 0.93))]
    best = {"averaged_model": checkpoint.pop("best_model"), "epoch": 2, "history": history[:2]}
    (tmp_path / "last.pt").write_bytes(serialize({**checkpoint, "epoch": 3, "history": history}))
    (tmp_path / "best.pt").write_bytes(serialize(best))
    found = find_run(tmp_path, {}, None)
    assert all(torch.equal(found["best_model"][name], w) for name, w in best["averaged_model"].items())
    of_another_run = {**best, "history": [asdict(epoch(1, 0.8)), history[1]]}
    of_another_epoch = {**best, "epoch": 1, "history": history[:1]}
    for content in (serialize(of_another_run), serialize(of_another_epoch), None):
        (tmp_path / "best.pt").unlink()
        if content:
            (tmp_path / "best.pt").write_bytes(content)
        with pytest.raises(UserError, match="last.pt, from an older version, .* put the best.pt of epoch 2 beside it"):
            find_run(tmp_path, {}, None)


def test_run_is_resumed_with_the_init_that_it_started_from_and_no_other(checkpoint, tmp_path):
    (tmp_path / "weights.pt").write_text("first weights")
    (tmp_path / "moved.pt").write_text("first weights")
    (tmp_path / "other.pt").write_text("others")
    checkpoint["init"] = run_files.describe_file(tmp_path / "weights.pt")
    assert checkpoint["init"]["md5"] == hashlib.md5(b"first weights").hexdigest()
    (tmp_path / "last.pt").write_bytes(serialize(checkpoint))
    (tmp_path / "weights.pt").write_text("of the run itself, which may write best.pt over it")
    for init in (None, tmp_path / "weights.pt", tmp_path / "moved.pt"):
        assert find_run(tmp_path, {}, init)
    with pytest.raises(UserError, match=f"it didn't start from {tmp_path / 'other.pt'}"):
        find_run(tmp_path, {}, tmp_path / "other.pt")
    (tmp_path / "last.pt").write_bytes(serialize({**checkpoint, "init": None}))
    with pytest.raises(UserError, match="it didn't start from"):
        find_run(tmp_path, {}, tmp_path / "weights.pt")


GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A folder that git_commit() and hash_code() take for the program's."""
    if not shutil.which("git"):
        pytest.skip("wants git")
    folder = tmp_path / "own" / "program"
    (folder / "training").mkdir(parents=True)
    (folder / "train.py").write_text("one\n")
    monkeypatch.setattr(run_files, "PROGRAM", folder)
    return folder


def commit(folder):
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*GIT, *command], cwd=folder, check=True)


def test_commit_is_named_in_full_though_a_release_is_tagged_and_changes_are_noted(program):
    commit(program)
    subprocess.run([*GIT, "tag", "-a", "v1.0", "-m", "release"], cwd=program, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=program, check=True, capture_output=True, text=True).stdout
    assert git_commit() == head.strip()
    (program / "train.py").write_text("two\n")
    assert git_commit() == f"{head.strip()}-dirty"


def test_program_without_a_repository_of_its_own_has_no_commit_though_it_lies_in_another_one(program):
    commit(program.parent)
    assert git_commit() == ""


def test_messages_of_git_in_any_encoding_are_no_error(program, monkeypatch):
    (program / ".git").mkdir()
    (program / "git").write_bytes(b"#!/bin/sh\nprintf 'fatal: gel\366scht' >&2; exit 128\n")
    (program / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{program}{os.pathsep}{os.environ['PATH']}")
    assert git_commit() == ""


def test_code_is_a_hash_of_the_programs_files_whatever_their_line_ends(program):
    (program / "training" / "config.py").write_text("a = 1\n")
    before = hash_code()
    (program / "training" / "config.py").write_bytes(b"a = 1\r\n")
    assert hash_code() == before
    (program / "notes.txt").write_text("of no matter")
    assert hash_code() == before
    (program / "training" / "config.py").write_text("a = 2\n")
    assert hash_code() != before


def wrapped(model):
    average = AveragedModel(model)
    average.update_parameters(model)
    return average


COMMON_FORMS = {
    "state_dict": lambda model: model.state_dict(),
    "compiled": lambda model: torch.compile(model).state_dict(),
    "DataParallel": lambda model: torch.nn.DataParallel(model).state_dict(),
    "compiled and DataParallel": lambda model: torch.nn.DataParallel(torch.compile(model)).state_dict(),
    "AveragedModel": lambda model: wrapped(model).state_dict(),
    "in state_dict": lambda model: {"epoch": 3, "config": {"lr": 1}, "state_dict": model.state_dict()},
    "in model_state_dict": lambda model: {"epoch": 3, "model_state_dict": model.state_dict(), "loss": 0.1},
    "in model, compiled": lambda model: {"model": torch.compile(model).state_dict(), "dataset": "mnist"},
    "in averaged_model, compiled": lambda model: {"averaged_model": torch.compile(model).state_dict()},
}


@pytest.mark.parametrize("form", COMMON_FORMS)
def test_weights_in_a_common_form_are_read(form, reference, data_dir, tmp_path, capsys):
    path = tmp_path / "weights.pt"
    torch.save(COMMON_FORMS[form](reference), path)
    content = load_weights(path, model := DigitCNN())
    assert all(torch.equal(value, reference.state_dict()[name]) for name, value in model.state_dict().items())
    assert set(content) <= {"averaged_model"}  # what others write beside the weights is not taken for ours
    alone = "weights only, with classes assumed to be 0 to 9"
    assert load_best_weights(DigitCNN(), path).description == f"{path} ({alone})"


def test_compiled_network_trains_and_its_best_pt_is_read(small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "DigitCNN", lambda: torch.compile(DigitCNN(), backend="eager"))
    assert train.main([*small_run, "--epochs", "1"]) == 0
    load_weights(tmp_path / "run" / "best.pt", DigitCNN())


@pytest.mark.parametrize("value", [math.nan, pytest.param(math.inf, marks=pytest.mark.exhaustive)])
def test_weights_that_are_no_numbers_are_refused_by_every_command(value, small_run, tmp_path, capsys):
    weights = DigitCNN().state_dict()
    weights["fc2.bias"][3] = value
    path = tmp_path / "weights.pt"
    torch.save(weights, path)
    commands = [
        lambda: predict.main([str(REPOSITORY / "results" / "digits" / "seven.png"), "--checkpoint", str(path)]),
        lambda: evaluate.main([str(path)]),
        lambda: train.main([*small_run, "--init", str(path)]),
        lambda: demo.main(["--no-browser", "--checkpoint", str(path)]),
    ]
    for command in commands:
        assert command() == 2
        assert f"{path} holds weights that are infinite or NaN\n" in capsys.readouterr().err
