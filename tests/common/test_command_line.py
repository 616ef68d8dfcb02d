"""Commands inside another process: a notebook, a profiler, a thread."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import asdict

import matplotlib
import pytest
from conftest import REPOSITORY, SMALL

import demo
import evaluate
import plot_results
import predict
import train
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


@pytest.mark.exhaustive
@pytest.mark.parametrize("script", ["train", "evaluate", "plot_results", "predict", "demo"])
def test_script_runs_as_text_without_a_file_as_when_it_is_pasted_into_a_notebook(script):
    code = (REPOSITORY / f"{script}.py").read_text(encoding="utf-8")
    command = [sys.executable, "-c", f"import sys; sys.argv = ['x', '--help']; exec({code!r})"]
    process = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith(f"usage: {script}.py ")


def test_output_that_cannot_be_encoded_is_written_otherwise(run_dir, tmp_path):
    folder = tmp_path / "ergebnisse für 数字"
    command = [sys.executable, "plot_results.py", run_dir, run_dir + "/none", "--output-dir", str(folder)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True)
    assert process.returncode == 2
    del command[3]
    process = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True)
    assert (process.returncode, process.stderr) == (0, b"")
    assert b"ergebnisse f\\xfcr \\u6570\\u5b57" in process.stdout


def test_error_that_cannot_be_encoded_is_one_line(tmp_path):
    command = [sys.executable, "plot_results.py", str(tmp_path / "für")]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True)
    assert process.returncode == 2
    assert process.stderr.startswith(b"plot_results.py: error: there is no ")
    assert process.stderr.count(b"\n") == 1


def test_tilde_stands_for_the_home_folder_in_every_path(run_dir, data_dir, tmp_path, monkeypatch, capsys):
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))  # on Windows
    monkeypatch.chdir(tmp_path)
    shutil.copytree(data_dir, home / "data")
    shutil.copy(REPOSITORY / "results" / "digits" / "seven.png", home)
    run, data = ["--output-dir=~/run"], ["--data-dir=~/data"]
    assert train.main([*SMALL, "--epochs=1", *data, *run]) == 0
    assert train.main([*SMALL, "--epochs=1", *data, *run, "--init=~/run/best.pt"]) == 0
    assert evaluate.main(["~/run/best.pt", *data, "--pictures=~/pictures", "--weights=~/weights.pt"]) == 0
    assert plot_results.main(["~/run", "--output-dir=~/results"]) == 0
    assert predict.main(["~/seven.png", "--checkpoint=~/weights.pt", "--preview=~/preview.png"]) in (0, 2)
    names = {"data", "run", "pictures", "weights.pt", "results", "seven.png"}
    assert names <= {path.name for path in home.iterdir()} <= names | {"preview.png"}
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert demo.main(["--no-browser", "--checkpoint=~/none.pt"]) == 2
    assert f"there is no {home / 'none.pt'}" in capsys.readouterr().err
    assert evaluate.main(["~nobody-of-that-name/best.pt"]) == 2
    assert "there is no ~nobody-of-that-name" in capsys.readouterr().err
