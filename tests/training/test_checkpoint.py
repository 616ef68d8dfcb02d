import copy
import functools
import io
import math
import operator
import os
import pickle
import random
import subprocess
import zipfile
from dataclasses import asdict

import pytest
import torch

import evaluate
import train
from common.command_line import UserError
from model import DigitCNN
from optimizer import AdamW
from training.checkpoint import DIGEST_BYTES, KEYS, load_checkpoint, load_model, seal, serialize
from training.config import TrainConfig
from training.metrics import COLUMNS, EpochMetrics


@pytest.fixture
def checkpoint() -> dict:
    weights = DigitCNN().state_dict()
    return {
        **dict.fromkeys(KEYS, {}),
        "epoch": 1,
        "config": asdict(TrainConfig()),
        "history": [asdict(EpochMetrics(1, *[0.5] * 8))],
        "model": weights,
        "averaged_model": {name: w + 1 for name, w in weights.items()},
        "optimizer": AdamW(DigitCNN().parameters()).state_dict(),
    }


def test_round_trip_is_bitwise(checkpoint, tmp_path):
    (tmp_path / "last.pt").write_bytes(serialize(checkpoint))
    loaded = load_checkpoint(tmp_path / "last.pt")
    assert loaded.keys() == checkpoint.keys()
    for part in ("model", "averaged_model"):
        assert loaded[part].keys() == checkpoint[part].keys()
        assert all(torch.equal(loaded[part][name], checkpoint[part][name]) for name in checkpoint[part])


def test_model_of_a_checkpoint_has_the_averaged_weights(checkpoint):
    model = load_model(checkpoint, torch.device("cpu"))
    assert torch.equal(model.fc2.bias, checkpoint["averaged_model"]["fc2.bias"])
    assert not torch.equal(model.fc2.bias, checkpoint["model"]["fc2.bias"])


def refused(path, reason="no checkpoint of this version of train.py, or damaged") -> bool:
    """Return whether the file is refused in one line with that reason; any other error fails the test."""
    try:
        load_checkpoint(path)
    except UserError as error:
        assert reason in str(error)
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
    "optimizer": lambda checkpoint, value: {**checkpoint, "optimizer": {**checkpoint["optimizer"], "mean": value}},
    "epoch": lambda checkpoint, value: {**checkpoint, "epoch": value},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("place", PLACES)
def test_code_in_a_checkpoint_is_refused_and_not_run(checkpoint, tmp_path, call, place):
    malicious = PLACES[place](checkpoint, CALLS[call](str(tmp_path / "owned")))
    torch.save(malicious, buffer := io.BytesIO())
    contents = [
        buffer.getvalue(),
        seal(buffer.getvalue()),  # as by somebody who knows the format
        pickle.dumps(malicious),
        seal(pickle.dumps(malicious) + b"\0\0"),
    ]
    for content in contents:
        (tmp_path / "best.pt").write_bytes(content)
        assert refused(tmp_path / "best.pt")
    assert not (tmp_path / "owned").exists()
    pickle.loads(contents[2])  # without that, it would have been
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


def test_every_damaged_file_is_refused_in_one_line(checkpoint, tmp_path, exhaustive):
    content = serialize(checkpoint)
    for mutated in mutations(content, 2000 if exhaustive else 100):
        (tmp_path / "best.pt").write_bytes(mutated)
        assert mutated == content or refused(tmp_path / "best.pt")


def test_damaged_files_with_a_right_checksum_are_loaded_or_refused_in_one_line(checkpoint, tmp_path, exhaustive):
    content, loaded = serialize(checkpoint)[: -DIGEST_BYTES - 2] + b"\0\0", 0
    count = 1000 if exhaustive else 100
    for mutated in mutations(content, count):
        (tmp_path / "best.pt").write_bytes(seal(mutated))
        loaded += not refused(tmp_path / "best.pt")
    assert 0 < loaded < count / 2  # other weights are no damage


def test_checkpoint_of_a_future_version_is_refused(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("training.checkpoint.KEYS", {*KEYS, "precision"})
    (tmp_path / "best.pt").write_bytes(serialize({**checkpoint, "precision": "float8"}))
    monkeypatch.undo()
    assert refused(tmp_path / "best.pt", "its entries are not those of this version")


def test_huge_files_are_refused_before_they_fill_the_memory(checkpoint, tmp_path):
    with (tmp_path / "best.pt").open("wb") as file:
        file.truncate(2**40)  # a terabyte, of no blocks
    assert refused(tmp_path / "best.pt", "larger than 10,000,000 bytes")
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as bomb:
        for number in range(20):
            bomb.writestr(f"archive/data/{number}", bytes(1_000_000))
    (tmp_path / "best.pt").write_bytes(seal(buffer.getvalue()))
    assert refused(tmp_path / "best.pt", "unpacks to more than 10,000,000 bytes")


MORE_JUNK = [10**40, math.nan, "../x", [1], {"a": 1}, torch.zeros(30840)]


@pytest.mark.parametrize(
    "junk", [None, -1, *(pytest.param(junk, marks=pytest.mark.exhaustive) for junk in MORE_JUNK)], ids=str
)
def test_wrong_values_with_a_right_checksum_are_refused_in_one_line_or_do_no_harm(small_run, tmp_path, capsys, junk):
    flags, path = [*small_run, "--epochs", "1"], tmp_path / "run" / "last.pt"
    assert train.main(flags) == 0
    checkpoint, content = load_checkpoint(path), path.read_bytes()
    places = [(part,) for part in checkpoint]
    places += [(part, key) for part in checkpoint if isinstance(checkpoint[part], dict) for key in checkpoint[part]]
    places += [("dataset", "images", "train"), ("history", 0), *(("history", 0, column) for column in COLUMNS)]
    capsys.readouterr()
    for place in places:
        changed = copy.deepcopy(checkpoint)
        *way, last = place
        functools.reduce(operator.getitem, way, changed)[last] = junk
        path.write_bytes(serialize(changed))
        exit_code = train.main([*flags, "--resume"])
        assert capsys.readouterr().err.count("\n") == (exit_code == 2)
        # What describes the run may say anything, and a bad score is a score.
        assert exit_code == 2 or place[0] in ("scheduler", "versions", "history"), place
        path.write_bytes(content)


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 1000, -1])
def test_truncated_checkpoint_is_refused(checkpoint, tmp_path, length):
    (tmp_path / "last.pt").write_bytes(serialize(checkpoint)[:length])
    assert refused(tmp_path / "last.pt")


def test_bad_checkpoint_ends_every_script_with_exit_code_2(checkpoint, tmp_path, capsys):
    (tmp_path / "last.pt").write_bytes(serialize(checkpoint)[:-1])
    assert evaluate.main([str(tmp_path / "last.pt")]) == 2
    assert train.main(["--resume", "--output-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_missing_file_folder_and_foreign_content_are_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint .*: train first"):
        load_checkpoint(tmp_path / "best.pt")
    with pytest.raises(UserError, match="can't read the checkpoint .*: Is a directory"):
        load_checkpoint(tmp_path)
    torch.save(DigitCNN().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(UserError, match="is no checkpoint of this version of train.py"):
        load_checkpoint(tmp_path / "weights.pt")


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("averaged_model", {"fc2.bias": torch.zeros(11)}),
        ("model", {"fc3.bias": torch.zeros(1)}),
        ("config", {"momentum": 0.9}),
        ("optimizer", {"mean": []}),
    ],
    ids=["another size", "another layer", "another setting", "another optimizer"],
)
def test_checkpoint_of_another_network_or_version_is_refused(checkpoint, tmp_path, part, change):
    checkpoint[part] = {**checkpoint[part], **change}
    (tmp_path / "last.pt").write_bytes(serialize(checkpoint))
    with pytest.raises(UserError, match="no checkpoint of this version of train.py"):
        load_checkpoint(tmp_path / "last.pt")
