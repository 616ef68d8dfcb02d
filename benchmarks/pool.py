"""Many runs at once: a process of one thread on each core."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")


def run_all(function: Callable[..., T], tasks: list[tuple]) -> Iterator[T]:
    """Call function(*task) for each task, as many at once as there are cores, and yield each result as it comes."""
    os.environ.update(OMP_NUM_THREADS="1", TQDM_DISABLE="1")  # of the processes: one thread, no bars across each other
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(function, *task) for task in tasks]
        for count, future in enumerate(as_completed(futures), 1):
            yield future.result()
            print(f"{count} of {len(tasks)} runs", flush=True)
