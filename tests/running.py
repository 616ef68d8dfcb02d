"""train.py in processes of its own, which tests may kill."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import REPOSITORY

import train

torch.optim.AdamW([torch.zeros(1)])  # imports PyTorch's compiler: here once, not in each process forked from this one


def run_train(flags, log, environment=None, limit=None, deadly=False, kill_at=None, float64=False):
    """Run train.py in this process, its output going to a file.

    environment is added to the variables. With float64, all is computed in that. limit is the largest size of a file; a
    deadly one kills the process in the middle of its write. kill_at kills it when it opens, renames or removes a file
    of the run for the kill_at-th time.
    """
    os.environ.update(environment or {})
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(descriptor, 1), os.dup2(descriptor, 2)
    if float64:
        torch.set_default_dtype(torch.float64)
        torch.Tensor.float = torch.Tensor.double
    if limit:
        import resource  # which Windows lacks

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if deadly:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    folder, uses = flags[flags.index("--output-dir") + 1], 0

    def hook(event, args):
        nonlocal uses
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(args[0]).startswith(folder):
            uses += 1
            if uses == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    if kill_at:
        sys.addaudithook(hook)
    os._exit(train.main(flags))


def start(processes, flags, log=os.devnull, **options):
    process = processes.Process(target=run_train, args=(flags, str(log)), kwargs=options)
    process.start()
    return process


def run(processes, flags, **options) -> bool:
    """Run train.py to its end; return whether it came there."""
    process = start(processes, flags, **options)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def in_namespaces(script: str, wanted: str = "mount -t tmpfs none /mnt", **variables) -> subprocess.CompletedProcess:
    """Run a shell script that may mount file systems and make networks, seen by nobody else.

    Skips the test where what is wanted isn't allowed.
    """
    namespaces = ["unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c"]
    try:
        subprocess.run([*namespaces, wanted], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"wants namespaces of its own (unshare), for: {wanted}")
    environment = {**os.environ, "python": sys.executable, **{name: str(value) for name, value in variables.items()}}
    return subprocess.run(
        [*namespaces, script], env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
