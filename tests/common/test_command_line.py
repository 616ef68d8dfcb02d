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
from common.command_line import command
from training.config import TrainConfig
from training.metrics import EpochMetrics, write_metrics


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> str:
    """The folder of a run, as plot_results.py reads it."""
    folder = tmp_path_factory.mktemp("run")
    write_metrics(folder / "metrics.csv", [EpochMetrics(1, 1e-3, 0.1, 0.97, 0.05, 0.98, 0.04, 0.99, 3.0)])
    (folder / "run.json").write_text(json.dumps({"config": asdict(TrainConfig(epochs=1))}))
    return str(folder)


def test_command_in_another_thread_than_the_main_one_leaves_the_signals_alone(run_dir, tmp_path, capsys):
    codes = []
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: codes.append(plot_results.main([run_dir, "--output-dir", str(tmp_path)])))
    thread.start()
    thread.join()
    assert codes == [0]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_signal_ends_a_command_as_ctrl_c_does_and_its_handler_is_put_back(monkeypatch, capsys, name):
    number, before = getattr(signal, name), signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        monkeypatch.setattr("common.command_line.Path.name", "script.py", raising=False)
        assert command(lambda argv: signal.raise_signal(number))() == 130
        assert signal.getsignal(number) == signal.SIG_DFL
        assert capsys.readouterr().err.endswith("interrupted\n")
    finally:
        signal.signal(number, before)


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


@pytest.mark.exhaustive
def test_notebook_that_runs_a_script_keeps_its_backend():
    backend = "svg"  # any that is there
    kernel = "import os, sys; sys.modules['ipykernel'] = sys; "  # what a notebook's process has imported
    code = kernel + "import common.figures, matplotlib; print(matplotlib.rcParams['backend'], os.environ['MPLBACKEND'])"
    environment = {**os.environ, "MPLBACKEND": backend}
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True, text=True).stdout
    assert output.split() == [backend, backend]


@pytest.mark.exhaustive
def test_pictures_are_drawn_whatever_backend_a_notebook_has_set(run_dir, tmp_path):
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    command = [sys.executable, "plot_results.py", run_dir, "--output-dir", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    assert (tmp_path / "curves.png").exists()


def test_pictures_are_drawn_where_a_user_has_asked_for_tex(run_dir, tmp_path, capsys):
    with matplotlib.rc_context({"text.usetex": True}):
        assert plot_results.main([run_dir, "--output-dir", str(tmp_path)]) == 0
    assert (tmp_path / "curves.png").exists()
