import platform

import pytest
import torch

import train
from training.device import choose_device, keep_freed_memory


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="wants glibc")
def test_keeping_freed_memory_saves_page_faults():
    import resource

    def page_faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(100):
            torch.ones(2_000_000)  # 8 MB
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_freed_memory()
    page_faults()
    assert page_faults() < 100 * 2_000_000 * 4 / 4096 / 10  # a tenth of one for each page
