"""On a GPU, training keeps its promises. Without one, these tests are skipped.

They have run on an NVIDIA H200. What other accelerators do is not known.
"""

import json
import signal
import subprocess
import sys

import pytest
import torch
from conftest import REPOSITORY
from running import wait_for
from test_train import assert_bitwise_equal, interrupt, run_files

import evaluate
import train
from training.run_files import load_checkpoint

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a CUDA GPU")

GLOO_IN_FLOAT64 = """
import sys
from functools import partial
import torch
import torch.distributed as dist

dist.init_process_group = partial(dist.init_process_group, "gloo")  # NCCL wants a GPU for each process
torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double
import train
sys.exit(train.main(sys.argv[1:]))
"""


@pytest.fixture
def flags(small_run):
    return [*small_run[:-2], "--device", "auto", "--epochs", "2"]


def run(flags, folder):
    assert train.main([*flags, "--output-dir", str(folder)]) == 0
    return run_files(folder)


def torchrun(count, script, flags, folder):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), script]
    return subprocess.run(
        [*command, *flags, "--output-dir", str(folder)], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("precision", ["--no-amp", "--amp"])
def test_the_same_seed_gives_the_same_bits(flags, tmp_path, precision):
    one, other = (run([*flags, precision], tmp_path / name) for name in ("one", "other"))
    assert json.loads((tmp_path / "one" / "run.json").read_text())["device"] != "cpu"
    assert_bitwise_equal(one, other)


def test_a_killed_run_goes_on_bit_for_bit(flags, tmp_path):
    flags, folder = [*flags, "--epochs", "20"], tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "train.py", *flags, "--output-dir", str(folder)], cwd=REPOSITORY)
    try:
        wait_for((folder / "last.pt").exists)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert len(load_checkpoint(folder / "last.pt")["history"]) < 20
    assert_bitwise_equal(run([*flags, "--resume"], folder), run(flags, tmp_path / "whole"))


@pytest.mark.parametrize(("first", "second"), [("auto", "cpu"), ("cpu", "auto")])
def test_checkpoints_go_from_one_device_to_another(flags, tmp_path, capsys, monkeypatch, first, second):
    flags = [*flags, "--epochs", "2", "--output-dir", str(tmp_path / "run")]
    interrupt(monkeypatch, epoch=2)
    assert train.main([*flags, "--device", first]) == 130
    monkeypatch.undo()
    answers = []
    for device in (first, second):
        capsys.readouterr()
        checkpoint = [str(tmp_path / "run" / "best.pt"), "--data-dir", flags[flags.index("--data-dir") + 1]]
        assert evaluate.main([*checkpoint, "--device", device, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    # GPUs convolve in TF32, whose 10 bits give each logit, of 10 at most, an error of about 1e-2 at most.
    assert answers[0]["loss"] == pytest.approx(answers[1]["loss"], abs=1e-2)
    assert train.main([*flags, "--device", second, "--resume"]) == 0


def test_no_step_waits_for_the_gpu(flags, tmp_path, monkeypatch):
    average, steps = train.update_average, []

    def strict(*arguments):
        average(*arguments)
        steps.append(arguments)
        if len(steps) % 13 == 0:  # the last step of an epoch; its sums may be waited for
            torch.cuda.set_sync_debug_mode("default")
        elif len(steps) % 13 == 1:  # the first one, which loads kernels and, before it, copies the data, may wait
            torch.cuda.set_sync_debug_mode("error")

    monkeypatch.setattr(train, "update_average", strict)
    try:
        run(flags, tmp_path / "run")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(steps) == 2 * 13


def test_one_process_of_torchrun_trains_as_without_it(flags, tmp_path):
    result = torchrun(1, "train.py", flags, tmp_path / "nccl")
    assert result.returncode == 0, result.stderr
    run(flags, tmp_path / "plain")
    one, other = (load_checkpoint(tmp_path / name / "last.pt") for name in ("nccl", "plain"))
    assert_bitwise_equal(one["averaged_model"], other["averaged_model"])


def test_two_processes_on_one_gpu_train_as_one(flags, tmp_path):
    script = tmp_path / "gloo.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n{GLOO_IN_FLOAT64}")
    flags = [*flags, "--device", "cuda:0"]
    for count in (1, 2):
        result = torchrun(count, str(script), flags, tmp_path / str(count))
        assert result.returncode == 0, result.stderr
    one, two = (load_checkpoint(tmp_path / str(count) / "last.pt") for count in (1, 2))
    assert two["processes"] == 2
    for name, weight in one["averaged_model"].items():
        torch.testing.assert_close(two["averaged_model"][name], weight, rtol=0, atol=1e-10)  # as on the CPU


def test_more_processes_than_gpus_are_refused(flags, tmp_path):
    result = torchrun(torch.cuda.device_count() + 1, "train.py", flags, tmp_path / "run")
    assert result.returncode != 0
    assert "--device auto can't be used here" in result.stderr
