"""Commands inside another process: a notebook, a profiler, a thread."""

import os
import runpy
import signal
import subprocess
import sys
import threading

import matplotlib
import pytest
from conftest import REPOSITORY

import plot_results
from common.command_line import command

RUN = str(REPOSITORY / "results" / "default" / "seed-0")


def test_command_in_another_thread_than_the_main_one_leaves_the_signals_alone(tmp_path, capsys):
    codes = []
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: codes.append(plot_results.main([RUN, "--output-dir", str(tmp_path)])))
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


def test_script_that_a_notebook_runs_ends_by_system_exit_and_leaves_the_process_alive(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["plot_results.py", RUN, "--output-dir", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:  # which %run takes for the end of the script
        runpy.run_path(str(REPOSITORY / "plot_results.py"), run_name="__main__")
    assert stop.value.code == 0


@pytest.mark.exhaustive
def test_profiler_writes_its_profile(tmp_path):
    command = [sys.executable, "-m", "cProfile", "-o", str(tmp_path / "profile"), "plot_results.py", RUN]
    subprocess.run([*command, "--output-dir", str(tmp_path)], cwd=REPOSITORY, check=True, capture_output=True)
    assert (tmp_path / "profile").stat().st_size > 1000


@pytest.mark.exhaustive
def test_pictures_are_drawn_whatever_backend_a_notebook_has_set(tmp_path):
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    command = [sys.executable, "plot_results.py", RUN, "--output-dir", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    assert (tmp_path / "curves.png").exists()


def test_pictures_are_drawn_where_a_user_has_asked_for_tex(tmp_path, capsys):
    with matplotlib.rc_context({"text.usetex": True}):
        assert plot_results.main([RUN, "--output-dir", str(tmp_path)]) == 0
    assert (tmp_path / "curves.png").exists()
