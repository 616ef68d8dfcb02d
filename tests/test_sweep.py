"""sweep.py trains settings times seeds and compares them. Where nothing else is said, its runs are in this process."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import pytest
import torch
from conftest import REPOSITORY, SMALL
from running import wait_for
from test_train import assert_bitwise_equal, run_files

import plot_results
import sweep
import train
from common.files import lock
from training.config import TrainConfig
from training.run_files import load_checkpoint

ONE_EPOCH = "batch_size=64,dataset=synthetic,epochs=1,validation_size=200"  # what SMALL and one epoch name a folder


def named(text: str) -> str:
    """Return the name of a setting's folder, in the order of the recipe's fields."""
    given = dict(pair.split("=") for pair in text.split(","))
    return ",".join(f"{name}={given[name]}" for name in asdict(TrainConfig()) if name in given)


@pytest.fixture
def in_process(monkeypatch):
    """Runs are trained in this process; the list says which."""
    trained = []

    def run(folder, flags, started, stop):
        trained.append(f"{folder.parent.name}/{folder.name}")
        return "it failed" if train.main([*flags, "--output-dir", str(folder), "--resume"]) else ""

    monkeypatch.setattr(sweep, "run", run)
    return trained


@pytest.fixture
def flags(data_dir, tmp_path):
    """The flags of a sweep of small runs of an epoch, in runs/."""
    own = ["--data-dir", str(data_dir), "--epochs", "1", "--jobs", "1", "--seeds", "2"]
    return [*SMALL, *own, "--output-dir", str(tmp_path / "runs")]


def test_every_combination_is_trained_with_every_seed_and_is_a_row(flags, in_process, tmp_path, capsys):
    assert sweep.main(["learning_rate=0.001,0.02", "augment=true,false", *flags]) == 0
    settings = [named(f"{ONE_EPOCH},learning_rate={rate}{augment}") for rate in ("0.001", "0.02")
                for augment in ("", ",augment=False")]  # fmt: skip
    assert in_process == [f"{setting}/seed-{seed}" for seed in (0, 1) for setting in settings]
    for setting in settings:
        for seed in (0, 1):
            config = load_checkpoint(tmp_path / "runs" / setting / f"seed-{seed}" / "best.pt")["config"]
            assert config["seed"] == seed
            assert f"learning_rate={config['learning_rate']}" in setting
            assert config["augment"] == ("augment" not in setting)
    text = (tmp_path / "runs" / "results.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    for setting in ("learning_rate=0.001, augment=True", "learning_rate=0.02, augment=False"):
        assert f"| {setting} | 2 | " in text
    assert "| Points above learning_rate=0.001, augment=True |" in text
    assert (tmp_path / "runs" / "curves.png").exists()
    assert (tmp_path / "runs" / "curves.svg").exists()


def test_finished_runs_are_not_run_again_and_more_seeds_are_added(flags, in_process, tmp_path, capsys):
    assert sweep.main(flags) == 0
    first = in_process.copy()
    assert first == [f"{named(ONE_EPOCH)}/seed-{seed}" for seed in (0, 1)]
    assert sweep.main(flags) == 0
    assert in_process == first
    assert sweep.main([*flags, "--seeds", "3"]) == 0
    assert in_process == [*first, f"{named(ONE_EPOCH)}/seed-2"]
    assert "mean ± standard deviation of 3 runs (seeds 0 to 2)" in capsys.readouterr().out


def test_folder_of_a_setting_is_plotted_as_the_mean_of_its_seeds(flags, in_process, tmp_path, capsys):
    assert sweep.main([*flags, "--seeds", "11"]) == 0
    capsys.readouterr()
    folder = tmp_path / "runs" / named(ONE_EPOCH)
    assert plot_results.main([str(folder), "--output-dir", str(tmp_path / "results")]) == 0
    assert "mean ± standard deviation of 11 runs (seeds 0 to 10)" in capsys.readouterr().out


def test_settings_of_a_file_are_no_grid(flags, in_process, tmp_path, capsys):
    (tmp_path / "settings.txt").write_text("# two settings\ndefault\n\nlearning_rate=0.02 augment=false\n")
    assert sweep.main(["--from", str(tmp_path / "settings.txt"), *flags, "--seeds", "1"]) == 0
    assert in_process == [
        f"{named(ONE_EPOCH)}/seed-0",
        f"{named(f'{ONE_EPOCH},learning_rate=0.02,augment=False')}/seed-0",
    ]


def test_run_that_fails_is_a_row_that_says_so_and_the_others_go_on(flags, in_process, tmp_path, capsys):
    assert sweep.main(["learning_rate=1e6,0.01", *flags, "--seeds", "1"]) == 0
    text = (tmp_path / "runs" / "results.md").read_text(encoding="utf-8")
    failed = named(f"{ONE_EPOCH},learning_rate=1000000.0")
    assert f"| {failed}, seed-0 | failed: it failed | - | - | - | - | - |" in text
    assert f"| {named(ONE_EPOCH)} | 1 | " in text  # the name of the setting that is left
    assert sweep.main(["learning_rate=1e6", *flags, "--seeds", "1"]) == 2
    assert "sweep.py: error: no run succeeded: it failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "{file}", "beta1=0.8"], "write the settings into {file} or into the command, not into both"),
        (["--from", "{file}"], "'=' is not a setting"),
        (["learning_rate"], "unrecognized arguments: learning_rate"),
        (["learning_rate="], "argument --learning-rate: invalid float value: ''"),
        (
            ["learning_rate", "=", "0.1"],
            "'=' is not a setting: write NAME=VALUE without spaces, as in learning_rate=0.003",
        ),
        (
            ["learning_rte=0.1"],
            "'learning_rte=0.1' is not a setting: write NAME=VALUE without spaces, as in learning_rate",
        ),
        (["output_dir=a,b"], "'output_dir=a,b' is not a setting"),
        (["learning_rate=0.1,fast"], "argument --learning-rate: invalid float value: 'fast'"),
        (
            ["learning_rate=0.1", "learning_rate=0.2"],
            "given twice: --learning-rate; write all values of a setting in one",
        ),
        (["learning_rate=0.1", "--learning-rate=0.2"], "given twice: --learning-rate"),
        (["augment=true,false", "--no-augment"], "given twice: --augment"),
        (["warm_up=0.1,2"], "--warm-up must be less than 1, not 2.0"),
        (["--speed", "3"], "unrecognized arguments: --speed 3"),
        (["validation_size=200,1000"], "given twice: --validation-size"),
        (["beta1=2"], "--beta1 must be less than 1, not 2.0"),
        (["--seed", "3"], "leave out --seed and --resume: a sweep sets them"),
        (["seed=1,2"], "'seed=1,2' is not a setting"),
        (["--seeds", "0"], "--jobs must be at least 1"),
        (["--from", "none.txt"], "can't use none.txt: No such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_training_would_refuse_is_refused_before_anything_runs(
    flags, in_process, tmp_path, capsys, words, message
):
    (tmp_path / "file").write_text("# settings\nbeta1 = 0.9\n")
    words, message = [word.format(file=tmp_path / "file") for word in words], message.format(file=tmp_path / "file")
    assert sweep.main([*flags, *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert in_process == []
    assert not (tmp_path / "runs").exists()


def test_folder_of_another_program_data_or_first_weights_is_not_mistaken_for_a_finished_run(
    flags, in_process, tmp_path, monkeypatch, capsys
):
    assert sweep.main([*flags, "--seeds", "1"]) == 0
    folder = tmp_path / "runs" / named(ONE_EPOCH) / "seed-0"
    weights = tmp_path / "weights.pt"
    torch.save(load_checkpoint(folder / "best.pt")["averaged_model"], weights)
    advice = "delete that folder, or choose another --output-dir"
    assert sweep.main([*flags, "--init", str(weights)]) == 2
    assert f"{folder} holds a run with a different init: {advice}" in capsys.readouterr().err
    monkeypatch.setattr(sweep, "hash_code", lambda: "another")
    assert sweep.main(flags) == 2
    assert f"{folder} holds a run with a different code: {advice}" in capsys.readouterr().err
    monkeypatch.undo()
    content = load_checkpoint(folder / "last.pt")
    content["dataset"]["md5"]["train-images-idx3-ubyte"] = "0" * 32
    torch.save(content, folder / "last.pt")
    assert sweep.main(flags) == 2
    assert f"{folder} holds a run with a different data: {advice}" in capsys.readouterr().err


def test_run_waits_for_a_trainer_that_outlived_a_killed_sweep(flags, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: started.append(time.monotonic()) or Done())
    with lock(tmp_path / "run"):
        thread = threading.Thread(target=sweep.run, args=(tmp_path / "run", [], [], threading.Event()))
        thread.start()
        time.sleep(0.3)
        assert started == []
    thread.join(30)
    assert len(started) == 1


def test_folder_that_cannot_be_written_is_one_line_and_nothing_is_waited_for(flags, tmp_path, capsys):
    (tmp_path / "runs").write_text("mine")
    assert sweep.main(flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("sweep.py: error: can't write ")
    assert error.count("\n") == 1


class Done:
    """A process that has ended well."""

    returncode = 0

    def communicate(self):
        return None, ""


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_killed_sweep_that_is_started_again_ends_with_the_bits_of_one_that_was_not(data_dir, tmp_path):
    def command(folder):
        own = ["--epochs", "60", "--data-dir", str(data_dir), "--output-dir", str(tmp_path / folder), "--jobs", "2"]
        return [sys.executable, "sweep.py", "learning_rate=0.001,0.01", "--seeds", "1", *SMALL, *own]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command("whole"), cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    with subprocess.Popen(command("killed"), cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: len(list((tmp_path / "killed").glob("*/seed-0/last.pt"))) == 2)
        process.send_signal(signal.SIGKILL)
    result = subprocess.run(
        command("killed"), cwd=REPOSITORY, env=environment, check=True, capture_output=True, text=True
    )
    assert "| Setting |" in result.stdout
    folders = sorted((tmp_path / "whole").glob("*/seed-0"))
    assert len(folders) == 2
    for folder in folders:
        again = tmp_path / "killed" / folder.relative_to(tmp_path / "whole")
        assert load_checkpoint(again / "last.pt")["epoch"] == 60
        assert_bitwise_equal(run_files(again), run_files(folder))


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_ctrl_c_ends_the_sweep_with_its_runs_and_says_how_to_go_on(data_dir, tmp_path):
    own = ["--epochs", "500", "--data-dir", str(data_dir), "--output-dir", str(tmp_path / "runs")]
    command = [sys.executable, "sweep.py", "--seeds", "4", *SMALL, *own]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        wait_for(lambda: list((tmp_path / "runs").glob("*/seed-0/last.pt")))
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert error.splitlines()[-1] == "sweep.py: interrupted; run the same command again to continue the sweep"
    for folder in (tmp_path / "runs").glob("*/seed-*"):
        with lock(folder):  # nobody trains there any more
            pass


def test_flags_of_a_setting_are_one_for_each_value():
    assert sweep.flags_of("augment=true,False") == ["--augment", "--no-augment"]
    assert sweep.flags_of("schedule=constant,one-cycle") == ["--schedule=constant", "--schedule=one-cycle"]
