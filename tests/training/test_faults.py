"""What happens to a run when its process or its disk fails. The faults are made, not imitated."""

import os
import random
import shutil
import signal
import time

import pytest
from conftest import SMALL
from running import in_namespaces, run, start, wait_for
from test_train import assert_bitwise_equal, run_files

import train
from training.metrics import read_metrics
from training.run_files import load_checkpoint

EPOCHS = 3


@pytest.fixture
def flags(small_run) -> list[str]:
    return [*small_run, "--epochs", str(EPOCHS)]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture(scope="module")
def uninterrupted(processes, data_dir, tmp_path_factory):
    """The files of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run(processes, [*SMALL, "--epochs", str(EPOCHS), "--data-dir", str(data_dir), "--output-dir", str(folder)])
    return run_files(folder)


def test_run_killed_at_any_use_of_its_files_resumes_to_the_same_bits(
    processes, flags, folder, uninterrupted, exhaustive
):
    kill_at, finished = 0, False
    while not finished:  # the process that reaches the end before its kill_at-th use is the last
        kill_at += 1 if exhaustive else 5
        finished = run(processes, [*flags, "--resume"], kill_at=kill_at)
        if (folder / "last.pt").exists() and load_checkpoint(folder / "last.pt")["epoch"] == EPOCHS and not finished:
            assert run(processes, [*flags, "--resume"])
            assert_bitwise_equal(run_files(folder), uninterrupted)
            shutil.rmtree(folder)
    assert kill_at > 6 * EPOCHS
    assert_bitwise_equal(run_files(folder), uninterrupted)


def test_earlier_run_survives_a_new_one_that_is_killed_at_any_use_of_its_files(processes, flags, folder, exhaustive):
    names = ("last.pt", "best.pt", "metrics.csv", "run.json")
    assert run(processes, flags)
    old = {name: (folder / name).read_bytes() for name in names}
    for kill_at in range(4, 50, 3 if exhaustive else 9):
        run(processes, [*flags, "--seed", "1"], kill_at=kill_at)
        archived = [path for path in folder.glob("archive/*") if path.suffix != ".tmp"]
        places = [place for place in (folder, *archived) if (place / "last.pt").read_bytes() == old["last.pt"]]
        assert places  # it can be resumed, or is whole in the archive
        assert all({name: (place / name).read_bytes() for name in names} == old for place in archived)
        shutil.rmtree(folder)
        folder.mkdir()
        for name, content in old.items():
            (folder / name).write_bytes(content)


def test_run_killed_at_random_moments_resumes_to_the_same_bits(
    processes, flags, folder, tmp_path, uninterrupted, exhaustive
):
    started = time.monotonic()
    assert run(processes, [*flags, "--output-dir", str(tmp_path / "timed")])
    seconds, moments = time.monotonic() - started, random.Random(0)
    for _ in range(6 if exhaustive else 1):
        for _ in range(3):
            process = start(processes, [*flags, "--resume"])
            time.sleep(moments.uniform(0, seconds))
            process.kill()
            process.join()
        assert run(processes, [*flags, "--resume"])
        assert_bitwise_equal(run_files(folder), uninterrupted)
        shutil.rmtree(folder)


def test_run_killed_in_the_middle_of_a_write_resumes_to_the_same_bits(processes, flags, folder, uninterrupted):
    process = start(processes, flags)
    wait_for((folder / "run.json").exists)
    process.kill()
    process.join()
    before = run_files(folder)[0]
    process = start(processes, [*flags, "--resume"], limit=300_000, deadly=True)
    process.join()
    assert process.exitcode == -signal.SIGXFSZ
    (torn,) = folder.glob("*.pt.tmp")
    assert torn.stat().st_size == 300_000
    assert_bitwise_equal(run_files(folder)[0], before)
    assert run(processes, [*flags, "--resume"])
    assert_bitwise_equal(run_files(folder), uninterrupted)


def test_ctrl_c_ends_a_run_in_one_line_that_says_how_to_resume(processes, flags, folder, tmp_path, uninterrupted):
    process = start(processes, flags, log=tmp_path / "log")
    wait_for(lambda: (tmp_path / "log").exists() and "|     1 |" in (tmp_path / "log").read_text())
    os.kill(process.pid, signal.SIGINT)  # not earlier: within the first save, no resuming is promised yet
    process.join()
    assert process.exitcode == 130
    log = (tmp_path / "log").read_text()
    # The signal may come while the row of the epoch is printed, before the end of its line.
    assert log.endswith(f"train.py: interrupted; --resume continues the run in {folder}\n"), log
    assert log.count("interrupted") == 1
    assert "Traceback" not in log
    assert list(folder.glob("*.tmp")) == []
    assert run(processes, [*flags, "--resume"])
    assert_bitwise_equal(run_files(folder), uninterrupted)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_other_signals_end_a_run_at_once_and_it_resumes(processes, flags, folder, uninterrupted, name):
    number = getattr(signal, name)
    process = start(processes, flags)
    wait_for((folder / "run.json").exists)
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == -number
    assert run(processes, [*flags, "--resume"])
    assert_bitwise_equal(run_files(folder), uninterrupted)


def test_file_size_limit_keeps_the_checkpoint_before_and_the_run_resumes(
    processes, flags, folder, tmp_path, uninterrupted
):
    process = start(processes, flags)
    wait_for((folder / "run.json").exists)
    process.kill()
    process.join()
    before = load_checkpoint(folder / "last.pt")["epoch"]
    limit = (folder / "last.pt").stat().st_size - 1
    process = start(processes, [*flags, "--resume"], log=tmp_path / "log", limit=limit)
    process.join()
    assert process.exitcode == 2
    error = (tmp_path / "log").read_text().splitlines()[-1]
    assert error.startswith("train.py: error: can't write")
    assert "File too large; free some space" in error
    assert load_checkpoint(folder / "last.pt")["epoch"] == before
    assert run(processes, [*flags, "--resume"])
    assert_bitwise_equal(run_files(folder), uninterrupted)


@pytest.mark.exhaustive
def test_full_disk_keeps_the_checkpoint_before_and_the_run_resumes(flags, folder, tmp_path, uninterrupted):
    folder.mkdir()
    script = f"""
        mount -t tmpfs -o size=1250k none $folder  # room for two checkpoints, not for a third
        $python train.py {" ".join(flags)}
        echo exit code $?; ls $folder
        mount -o remount,size=9000k $folder
        $python train.py {" ".join(flags)} --resume && cp -r $folder $copy
    """
    result = in_namespaces(script, folder=folder, copy=tmp_path / "copy")
    assert "exit code 2\nbest.pt\nlast.pt\nmetrics.csv\nrun.json\n" in result.stdout
    (error,) = result.stderr.splitlines()
    assert "can't write" in error
    assert "No space left on device; free some space" in error
    assert_bitwise_equal(run_files(tmp_path / "copy"), uninterrupted)


@pytest.mark.exhaustive
def test_read_only_output_folder_is_found_before_the_first_epoch(flags, folder):
    folder.mkdir()
    result = in_namespaces(f"mount -t tmpfs -o ro none $folder; $python train.py {' '.join(flags)}", folder=folder)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == f"train.py: error: can't write {folder}: Read-only file system; choose another folder\n"


@pytest.mark.exhaustive
def test_read_only_data_folder_trains(flags, folder, data_dir):
    script = f"mount --bind $data_dir $data_dir; mount -o remount,bind,ro $data_dir; $python train.py {' '.join(flags)}"
    result = in_namespaces(script, data_dir=data_dir)
    assert result.returncode == 0, result.stderr
    assert len(read_metrics(folder / "metrics.csv")) == EPOCHS


def test_second_run_in_a_folder_stops_in_one_line_and_the_first_goes_on(
    processes, flags, folder, uninterrupted, capsys
):
    process = start(processes, flags)
    wait_for((folder / "run.json").exists)
    for more in ([], ["--resume"], ["--seed", "1"]):
        assert train.main([*flags, *more]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"another process is using {folder}: wait for it to finish" in error
    process.join()
    assert process.exitcode == 0
    assert_bitwise_equal(run_files(folder), uninterrupted)
