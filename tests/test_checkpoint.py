import pickle
from dataclasses import asdict

import pytest
import torch

from checkpoint import KEYS, load_checkpoint, load_model, serialize
from command_line import UserError
from config import TrainConfig
from metrics import EpochMetrics
from model import DigitCNN
from optimizer import AdamW


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


class Malicious:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    for path, save in [(tmp_path / "zip.pt", torch.save), (tmp_path / "plain.pt", save_pickle)]:
        save({"model": Malicious(tmp_path / "owned")}, path)
        with pytest.raises(UserError, match="is no checkpoint of this version of train.py"):
            load_checkpoint(path)
    assert not (tmp_path / "owned").exists()


def save_pickle(value, path):
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("length", [0, 1, 1000, -1])
def test_truncated_checkpoint_is_refused(checkpoint, tmp_path, length):
    (tmp_path / "last.pt").write_bytes(serialize(checkpoint)[:length])
    with pytest.raises(UserError, match="is no checkpoint of this version of train.py, or damaged"):
        load_checkpoint(tmp_path / "last.pt")


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


def test_flipped_bit_in_a_weight_is_found(checkpoint, tmp_path):
    content = bytearray(serialize(checkpoint))
    weight = content.index(checkpoint["model"]["fc1.weight"].numpy().tobytes())
    content[weight + 1234] ^= 1
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(UserError, match="wrong checksum"):
        load_checkpoint(tmp_path / "last.pt")
