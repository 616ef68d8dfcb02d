"""Several processes train as one. All of them are real, and so are their deaths. Nothing waits longer than a minute."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from running import in_namespaces, start, wait_for
from test_train import assert_bitwise_equal, run_files

import train
from common.command_line import UserError
from common.files import lock
from training.distributed import choose_device, process_group
from training.metrics import read_metrics
from training.run_files import load_checkpoint

PAGE = (REPOSITORY / "docs" / "speed.md").read_text(encoding="utf-8")
# 14 batches of 57 images and one of 2: fewer than there are processes
OFFLINE = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}  # where nothing listens
RAGGED = ["--batch-size", "57"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def without_gloo(log: str) -> str:
    """Return the output of a process without the lines of Gloo, which PyTorch 2.8 prints."""
    return re.sub(r"\[Gloo\] .*\n", "", log)


def run_together(
    processes, count, flags, folder, exit_codes=None, kill_at=None, float64=False, offline=False
) -> list[str]:
    """Train in so many processes, as torchrun starts them; return what each printed. kill_at is of the first one."""
    port = free_port()
    environments = [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            **(OFFLINE if offline else {}),
        }
        for rank in range(count)
    ]
    logs = [folder.with_name(f"{folder.name}-{rank}.log") for rank in range(count)]
    flags = [*flags, "--output-dir", str(folder)]
    children = [
        start(
            processes,
            flags,
            log,
            environment=environment if count > 1 else None,
            kill_at=None if rank else kill_at,
            float64=float64,
        )
        for rank, (log, environment) in enumerate(zip(logs, environments, strict=True))
    ]
    for child in children:
        child.join(60)
    texts = [without_gloo(log.read_text()) for log in logs]
    assert [child.exitcode for child in children] == (exit_codes or [0] * count), texts
    return texts


# Of float64 weights. Sums in another order differ by about 1e-16, and Adam multiplies that in the worst case, of a
# gradient near 0, by learning rate / eps = 1e6 at each step. Measured over 3 seeds and kernels of AVX2 and SSE4.1:
# 2.2e-14 at most.
ROUNDING = 1e-10


def assert_agree(processes, count, flags, folder):
    """Train in one process and in so many, in float64; compare weights and metrics."""
    for number in (1, count):
        run_together(processes, number, flags, folder / str(number), float64=True)
    one, several = (load_checkpoint(folder / str(number) / "last.pt") for number in (1, count))
    for part in ("model", "averaged_model"):
        for name, weight in one[part].items():
            torch.testing.assert_close(several[part][name], weight, rtol=0, atol=ROUNDING)
    for ours, theirs in zip(several["history"], one["history"], strict=True):
        assert ours["learning_rate"] == theirs["learning_rate"]
        for split, images in (("train", 800), ("validation", 200), ("test", 300)):
            correct = ours[f"{split}_accuracy"] * images
            assert correct == pytest.approx(round(correct), abs=1e-9)  # of so many images, exactly
            assert ours[f"{split}_loss"] == pytest.approx(theirs[f"{split}_loss"], rel=ROUNDING)


SAMPLE = [(3, "--no-amp")]  # --no-amp is the default
REST = [(2, "--no-amp"), (4, "--no-amp"), (2, "--textbook"), (3, "--textbook"), (4, "--textbook")]


@pytest.mark.parametrize(
    ("count", "recipe"), SAMPLE + [pytest.param(*combination, marks=pytest.mark.exhaustive) for combination in REST]
)
def test_in_float64_weights_after_two_epochs_are_those_of_one_process(processes, small_run, tmp_path, count, recipe):
    assert_agree(processes, count, [*small_run, *RAGGED, recipe, "--epochs", "2"], tmp_path)


# Later steps would multiply the difference. Of 3 seeds, 2 and 3 processes, kernels of AVX2 and SSE4.1, it is at most
# 1.3e-6 of the norm in float32, and 2.6e-4 between kernels, which choose another maximum to pool; in bfloat16 0.018.
# The tolerance is ten times that; the gradient of one process's shard alone would be off by 0.48 and more.
@pytest.mark.parametrize(("precision", "tolerance"), [("--no-amp", 3e-3), ("--amp", 0.18)], ids=["float32", "bfloat16"])
def test_gradient_of_the_first_step_is_about_that_of_one_process(processes, small_run, tmp_path, precision, tolerance):
    def gradient(count):
        flags = [*small_run, "--batch-size", "800", "--epochs", "1", precision]
        run_together(processes, count, flags, tmp_path / str(count))
        state = load_checkpoint(tmp_path / str(count) / "last.pt")["optimizer"]["state"]
        return torch.cat([moments["exp_avg"].flatten() for moments in state.values()])  # a tenth of the gradient

    one, several = gradient(1), gradient(3)
    assert (several - one).norm() < tolerance * one.norm()


@pytest.mark.exhaustive
def test_evaluation_by_several_processes_is_bitwise_that_of_one(processes, small_run, tmp_path):
    still = [
        "--textbook",
        "--learning-rate",
        "1e-12",
        "--epochs",
        "1",
    ]  # less than the last bit of any weight but zeros
    for count in (1, 2, 3):
        run_together(processes, count, [*small_run, *still], tmp_path / str(count))
    one, *others = (read_metrics(tmp_path / str(count) / "metrics.csv")[0] for count in (1, 2, 3))
    for other in others:
        for column in ("validation_loss", "validation_accuracy", "test_loss", "test_accuracy", "train_accuracy"):
            assert getattr(other, column) == getattr(one, column)


def test_first_process_alone_prints_and_writes(processes, small_run, tmp_path):
    first, *others = run_together(processes, 3, [*small_run, "--epochs", "2"], tmp_path / "run")
    assert first.count("\n|     ") == 2
    assert "device cpu, processes 3, threads 1, seed 0" in first
    assert others == ["", ""]
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == [".lock", "best.pt", "last.pt", "metrics.csv", "run.json"]


def test_same_number_of_processes_gives_the_same_bits(processes, small_run, tmp_path):
    for name in ("first", "second"):
        run_together(processes, 2, [*small_run, *RAGGED, "--epochs", "2"], tmp_path / name)
    assert_bitwise_equal(run_files(tmp_path / "second"), run_files(tmp_path / "first"))


@pytest.mark.exhaustive
@pytest.mark.parametrize("count", [1, 3])
def test_run_of_two_processes_resumes_with_another_number_of_them(processes, small_run, tmp_path, count):
    flags, folder = [*small_run, *RAGGED, "--epochs", "3"], tmp_path / "run"
    # The first process is killed between last.pt and best.pt of the second epoch; the other can't go on to the third.
    run_together(processes, 2, flags, folder, exit_codes=[-signal.SIGKILL, 1], kill_at=24, float64=True)
    assert load_checkpoint(folder / "last.pt")["epoch"] == 2
    assert load_checkpoint(folder / "best.pt")["epoch"] == 1
    run_together(processes, count, [*flags, "--resume"], folder, float64=True)
    best, history = load_checkpoint(folder / "best.pt"), load_checkpoint(folder / "last.pt")["history"]
    assert best["history"] == history[: best["epoch"]]
    run_together(processes, 1, flags, tmp_path / "one", float64=True)
    ours, theirs = (load_checkpoint(path / "last.pt") for path in (folder, tmp_path / "one"))
    for name, weight in theirs["averaged_model"].items():
        torch.testing.assert_close(ours["averaged_model"][name], weight, rtol=0, atol=ROUNDING)


def test_loss_that_is_not_finite_ends_all_processes_with_the_epoch(processes, small_run, tmp_path):
    flags = [*small_run, "--learning-rate", "1e6", "--epochs", "2"]
    for rank, log in enumerate(run_together(processes, 2, flags, tmp_path / "run", exit_codes=[2, 2])):
        assert f"train.py, rank {rank}: error: the loss became infinite or NaN in epoch 1" in log


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("lock", "another process is using"),
        ("resume", "last.pt is damaged"),
        ("data", "there is no data set cifar"),
        ("save", "can't write"),
    ],
)
def test_error_that_rank_0_meets_alone_ends_all_and_none_waits_for_another(
    processes, small_run, tmp_path, step, message
):
    """Nothing is torn down from outside: each process ends by itself, with its own line."""
    flags, folder = [*small_run, "--epochs", "1"], tmp_path / "run"
    folder.mkdir()
    if step == "resume":
        (folder / "last.pt").write_text("damaged")
        flags.append("--resume")
    elif step == "data":
        flags += ["--dataset", "cifar"]
    elif step == "save":
        (folder / "last.pt.tmp").mkdir()
    with lock(folder) if step == "lock" else contextlib.nullcontext():
        logs = run_together(processes, 3, flags, folder, exit_codes=[2, 2, 2])
    for rank, log in enumerate(logs):
        (error,) = [line for line in log.splitlines() if "error" in line]
        assert error.startswith(f"train.py, rank {rank}: error: ")
        assert message in error


def environment_of_rank_0_of_2(port: int) -> dict[str, str]:
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return {**os.environ, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", **address}


@pytest.mark.exhaustive
def test_errors_of_torch_distributed_are_shown_as_they_are(small_run):
    with socket.create_server(("127.0.0.1", 0)) as server:  # the port is busy
        environment = environment_of_rank_0_of_2(server.getsockname()[1])
        command = [sys.executable, "train.py", *small_run]
        result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "EADDRINUSE" in result.stderr


@pytest.mark.exhaustive
def test_sigterm_ends_a_process_that_waits_for_the_others(small_run):
    """As `timeout` and the schedulers of clusters send it."""
    port = free_port()
    command = [sys.executable, "train.py", *small_run]
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment_of_rank_0_of_2(port)) as process:

        def is_waiting():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True

        try:
            wait_for(is_waiting)
            process.terminate()
            assert process.wait(60) == -signal.SIGTERM
        finally:
            process.kill()


def test_process_of_rank_0_chooses_the_data_set_for_all(processes, small_run, tmp_path):
    first, second = run_together(
        processes, 2, [*small_run, "--dataset", "auto", "--epochs", "1"], tmp_path / "run", offline=True
    )
    assert first.count("warning: can't get the data set mnist") == 2
    assert "synthetic: 800 train" in first
    assert second == ""


def torchrun(*flags: str, count: int = 2, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "train.py", *flags]
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )


def children(process: subprocess.Popen) -> list[int]:
    return list(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))


def our_lines(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("train.py, rank ")]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="wants Linux's /proc")
@pytest.mark.exhaustive
@pytest.mark.parametrize("victim", [0, 1])
def test_death_of_a_process_ends_all_within_seconds_and_the_run_resumes(processes, small_run, tmp_path, victim):
    flags = [*small_run, "--epochs", "20"]
    folder = tmp_path / "run"
    with torchrun(*flags, "--output-dir", str(folder)) as process:
        wait_for((folder / "last.pt").exists)
        os.kill(sorted(children(process))[victim], signal.SIGKILL)
        output, _ = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "exitcode  : -9" in output  # torchrun's own report
    assert 1 <= load_checkpoint(folder / "last.pt")["epoch"] < 20
    run_together(processes, 1, [*flags, "--resume"], folder)
    assert len(read_metrics(folder / "metrics.csv")) == 20


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_all_processes_with_a_line_of_each_at_most(small_run, tmp_path, number):
    folder = tmp_path / "run"
    with torchrun(*small_run, "--epochs", "300") as process:
        wait_for((folder / "last.pt").exists)
        if number == signal.SIGINT:  # as a terminal does: to all of them
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        output, _ = process.communicate(timeout=20)
    assert process.returncode != 0
    assert len(our_lines(output)) <= 2
    assert load_checkpoint(folder / "last.pt")["epoch"] < 300


@pytest.mark.exhaustive
def test_wrong_argument_is_told_by_each_process_in_its_line(small_run, tmp_path):
    with torchrun(*small_run, "--epochs", "0", count=3) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    lines = our_lines(output)  # torchrun may end a process before its line
    assert (
        {f"train.py, rank {rank}: error: --epochs must be at least 1, not 0" for rank in range(3)}
        >= set(lines)
        != set()
    )
    assert not (tmp_path / "run").exists()


TWO_MACHINES = """
    mount -t tmpfs none /run && ip netns add a && ip netns add b
    ip link add eth-a netns a type veth peer name eth-b netns b
    for machine in a b; do ip -n $machine link set lo up; ip -n $machine link set eth-$machine up; done
    ip -n a address add 10.0.0.1/24 dev eth-a; ip -n b address add 10.0.0.2/24 dev eth-b
"""


@pytest.mark.exhaustive
def test_two_machines_train_as_one_by_the_commands_of_the_docs(processes, small_run, tmp_path):
    flags = " ".join([*small_run, *RAGGED, "--epochs", "2", "--output-dir"])
    commands = [line.split() for line in PAGE.splitlines() if "--nnodes 2" in line]
    on_machines = [
        f"GLOO_SOCKET_IFNAME=eth-{machine} ip netns exec {machine} $python -m torch.distributed.run "
        f"{' '.join(command[1:])} {flags} $folder/{machine}"
        for machine, command in zip("ab", commands, strict=True)
    ]
    wanted = f"set -e; {TWO_MACHINES}"
    both = f"{on_machines[1]} > $folder-b.log &\n{on_machines[0]}\nwait $!"
    script = f"{wanted}\n{both}\n{both.replace('--output-dir', '--resume --output-dir')}"  # of a run that has ended
    result = in_namespaces(script, wanted, folder=tmp_path / "run", OMP_NUM_THREADS=1)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n|     ") == 2 + 2
    assert without_gloo((tmp_path / "run-b.log").read_text()) == ""
    assert not (tmp_path / "run" / "b").exists()
    run_together(processes, 2, [*small_run, *RAGGED, "--epochs", "2"], tmp_path / "one machine")
    assert_bitwise_equal(run_files(tmp_path / "run" / "a"), run_files(tmp_path / "one machine"))


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


def test_auto_falls_back_to_the_cpu_where_the_accelerator_does_not_work_and_says_so(monkeypatch, capsys):
    device = torch.device("mps:7")  # there is none on any machine
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: device)
    assert choose_device("auto") == torch.device("cpu")
    assert "warning: the accelerator can't be used here" in capsys.readouterr().err


def test_auto_under_torchrun_is_an_error_where_the_accelerator_does_not_work(monkeypatch):
    device = torch.device("mps:7")  # there is none on any machine
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: device)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(
        UserError, match="--device auto can't be used here .*: try --device cpu, or start only as many processes as"
    ):
        choose_device("auto")


def test_variables_of_a_cluster_without_torchrun_start_no_group(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")  # which clusters export
    monkeypatch.setenv("RANK", "0")
    with process_group():
        assert not torch.distributed.is_initialized()
