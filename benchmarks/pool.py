"""Runs of train.py's own loop that keep no file, and many of them at once: a process of one thread on each core."""

import contextlib
import io
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

import train
from mnist.dataset import Data
from training.config import TrainConfig
from training.metrics import EpochMetrics

T = TypeVar("T")


def fit(config: TrainConfig, data: Data) -> list[EpochMetrics]:
    """Train as train.py does, but print nothing and keep no file; return the metrics of all epochs."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return train.fit(config, data, Path(folder))


def run_all(function: Callable[..., T], tasks: list[tuple]) -> Iterator[T]:
    """Call function(*task) for each task, as many at once as there are cores, and yield each result as it comes."""
    os.environ.update(OMP_NUM_THREADS="1", TQDM_DISABLE="1")  # of the processes: one thread, no bars across each other
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(function, *task) for task in tasks]
        for count, future in enumerate(as_completed(futures), 1):
            yield future.result()
            print(f"{count} of {len(tasks)} runs", flush=True)
