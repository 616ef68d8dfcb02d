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
from training.config import TrainConfig
from training.run_files import find_run, load_checkpoint, load_weights, serialize


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
        "optimizer": torch.optim.AdamW(DigitCNN().parameters()).state_dict(),
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
        ".": f"can't use {tmp_path}: Is a directory",
        "list.pt": "list.pt is damaged, or holds more than a dict of tensors and values",
        "network.pt": "network.pt is damaged, or holds more than a dict of tensors and values",
    }.items():
        assert evaluate.main([str(tmp_path / file)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    with pytest.raises(UserError, match="last.pt is of another version of train.py"):  # weights alone don't resume
        find_run(tmp_path, {}, True)


@pytest.mark.parametrize("change", [{"fc2.bias": torch.zeros(11)}, {"fc3.bias": torch.zeros(1)}], ids=str)
def test_weights_of_another_network_are_refused_in_one_line(checkpoint, small_run, tmp_path, capsys, change):
    checkpoint["averaged_model"] = {**checkpoint["averaged_model"], **change}
    (tmp_path / "best.pt").write_bytes(serialize(checkpoint))
    assert evaluate.main([str(tmp_path / "best.pt")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is not of the network in model.py" in error
    assert train.main([*small_run, "--epochs", "1"]) == 0
    last = tmp_path / "run" / "last.pt"
    last.write_bytes(serialize({**load_checkpoint(last), "averaged_model": checkpoint["averaged_model"]}))
    capsys.readouterr()
    assert train.main([*small_run, "--epochs", "1", "--resume"]) == 2
    assert "can't resume: last.pt is of another network or optimizer" in capsys.readouterr().err


def test_setting_that_an_older_checkpoint_lacks_takes_its_default_and_an_unknown_one_is_an_error(checkpoint, tmp_path):
    del checkpoint["config"]["label_smoothing"]
    (tmp_path / "last.pt").write_bytes(serialize(checkpoint))
    assert find_run(tmp_path, {}, True)[1] == asdict(TrainConfig())
    checkpoint["config"]["momentum"] = 0.9
    (tmp_path / "last.pt").write_bytes(serialize(checkpoint))
    with pytest.raises(UserError, match="last.pt is of another version .*momentum"):
        find_run(tmp_path, {}, True)
