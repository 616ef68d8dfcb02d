"""Commands inside another process: a notebook, a profiler, a thread."""

import json
import os
import runpy
import signal
import subprocess
import sys
import threading
from dataclasses import asdict

import matplotlib
import pytest
from conftest import REPOSITORY

import plot_results
from common.command_line import UserError, command
from training.config import TrainConfig
from training.metrics import EpochMetrics, metrics_csv


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> str:
    """The folder of a run, as plot_results.py reads it."""
    folder = tmp_path_factory.mktemp("run")
    history = [EpochMetrics(1, 1e-3, 0.1, 0.97, 0.05, 0.98, 0.04, 0.99, 3.0)]
    (folder / "metrics.csv").write_text(metrics_csv(history))
    (folder / "run.json").write_text(json.dumps({"config": asdict(TrainConfig(epochs=1))}))
    return str(folder)


def test_command_runs_in_another_thread_than_the_main_one(run_dir, tmp_path, capsys):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(plot_results.main([run_dir, "--output-dir", str(tmp_path)])))
    thread.start()
    thread.join()
    assert codes == [0]


WAITING = """
import signal, plot_results
plot_results.read_run = lambda _: (print("waiting", flush=True), signal.pause())
plot_results.main(["run"])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has none of these signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_signals_other_than_ctrl_c_keep_their_default_action_which_ends_a_command(name):
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(getattr(signal, name))
            assert process.wait(60) == -getattr(signal, name)
        finally:
            process.kill()


def test_error_is_one_line_and_names_the_rank_of_a_process_of_torchrun(capsys, monkeypatch):
    @command
    def main(argv):
        raise UserError("no\nluck")

    assert main() == 2
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert main() == 2
    assert capsys.readouterr().err == (
        "test_command_line.py: error: no luck\ntest_command_line.py, rank 3: error: no luck\n"
    )


def test_script_that_a_notebook_runs_ends_by_system_exit_and_leaves_the_process_alive(
    run_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["plot_results.py", run_dir, "--output-dir", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:  # which %run takes for the end of the script
        runpy.run_path(str(REPOSITORY / "plot_results.py"), run_name="__main__")
    assert stop.value.code == 0


def test_reader_that_closes_the_pipe_gets_no_traceback(run_dir, tmp_path):
    command = [sys.executable, "plot_results.py", run_dir, "--output-dir", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 2


@pytest.mark.exhaustive
def test_profiler_writes_its_profile(run_dir, tmp_path):
    command = [sys.executable, "-m", "cProfile", "-o", str(tmp_path / "profile"), "plot_results.py", run_dir]
    subprocess.run([*command, "--output-dir", str(tmp_path)], cwd=REPOSITORY, check=True, capture_output=True)
    assert (tmp_path / "profile").stat().st_size > 1000


def test_notebook_that_calls_a_command_keeps_its_backend(run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MPLBACKEND", "svg")  # any that is there
    monkeypatch.setitem(sys.modules, "ipykernel", sys)  # what a notebook's process has imported
    assert plot_results.main([run_dir, "--output-dir", str(tmp_path)]) == 0
    assert os.environ["MPLBACKEND"] == "svg"


def test_pictures_are_drawn_whatever_backend_a_notebook_has_set(run_dir, tmp_path):
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    command = [sys.executable, "plot_results.py", run_dir, "--output-dir", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    assert (tmp_path / "curves.png").exists()


def test_pictures_are_drawn_alike_whatever_style_a_user_has_set(run_dir, tmp_path, capsys):
    assert plot_results.main([run_dir, "--output-dir", str(tmp_path / "default")]) == 0
    style = {"text.usetex": True, "axes.facecolor": "black", "image.origin": "lower", "savefig.facecolor": "black"}
    with matplotlib.rc_context(style):
        assert plot_results.main([run_dir, "--output-dir", str(tmp_path / "own")]) == 0
    pictures = [(tmp_path / name / "curves.png").read_bytes() for name in ("default", "own")]
    assert pictures[0] == pictures[1]
