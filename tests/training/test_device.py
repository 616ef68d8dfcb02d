import pytest
import torch

import train
from training.distributed import choose_device


@pytest.mark.parametrize("name", ["abacus", "cuda:99", "cuda:-1", "meta", "hpu", "xla"])
def test_device_that_is_not_there_is_refused_in_one_line(name, tmp_path, capsys):
    arguments = ["--device", name, "--data-dir", str(tmp_path), "--output-dir", str(tmp_path / "run")]
    assert train.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"--device {name} can't be used here" in error
    assert list(tmp_path.iterdir()) == []


def test_auto_chooses_a_device_that_works():
    torch.ones(2, device=choose_device("auto")).sum()
