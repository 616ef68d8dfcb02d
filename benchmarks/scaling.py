"""Measure what more processes bring, and reckon where they stop paying.

    python -m benchmarks.scaling [--data-dir data] [--output results/scaling.md]

Starts torchrun for each number of processes and threads, in turns, with the same global batch. Takes about five minutes
on two CPU cores. Leave the machine alone meanwhile.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from torch.utils.data import TensorDataset

import train
from benchmarks import REPOSITORY
from benchmarks.markdown import table
from benchmarks.speed import describe_machine, describe_versions
from common.command_line import user_path
from mnist.dataset import load_data
from training.config import TrainConfig
from training.distributed import process_group, rank, world_size

GRADIENT_BYTES = 4 * 30_840  # of a step
BATCHES = [128, 1024]  # global
LAYOUTS = [(1, 1), (1, 2), (2, 1), (4, 1)]  # processes, threads of each
SHARDS = [4, 8, 16, 32, 64, 128, 256, 512, 1024]  # batches of one process, for the model
STEPS = 150  # in a measurement, at most
PROCESSES_ON_PAPER = [1, 2, 4, 8, 16, 32, 64, 128]
EXPLANATION = """\
What to expect of more: a step of one process of one thread takes {fixed:.2f} ms, and {per_image:.4f} ms more for each
image (a least-squares fit to batches of {shares}, each of which it gives to {error:.0%}).
P processes have a P-th of the batch each. Then they add their gradients, {bytes:,} bytes, in a ring: 2 (P - 1) messages
of a P-th of them, one after the other. On paper, with a core for each process, where a message takes {latency:.0f} µs
and {gigabits:.0f} Gbit/s, as on an ordinary Ethernet, {most}:"""


def measure_here(batch_sizes: list[int], data_dir: str) -> None:
    """As one of the processes that torchrun started: time steps of each batch size; the first process prints them."""
    device = torch.device("cpu")
    with process_group():
        split = load_data(TrainConfig(), Path(data_dir)).train
        for batch_size in batch_sizes:
            config, waits = TrainConfig(batch_size=batch_size), []
            _, _, ddp_model, _ = parts = train.build(config, device)
            if world_size() > 1:
                ddp_model.register_comm_hook(waits, timed_allreduce)
            train.train_one_epoch(*parts, first(split, 10 * batch_size), config, 1)  # as a start
            waits.clear()
            part = first(split, STEPS * batch_size)
            started = time.perf_counter()
            train.train_one_epoch(*parts, part, config, 1)
            seconds = time.perf_counter() - started
            steps = -(-len(part) // batch_size)
            if rank() == 0:
                print(json.dumps({
                    "batch_size": batch_size,
                    "images_per_second": len(part) / seconds,
                    "milliseconds": 1000 * seconds / steps,
                    "allreduce_milliseconds": 1000 * sum(waits) / steps,
                }), flush=True)  # fmt: skip


def timed_allreduce(waits: list[float], bucket: GradBucket) -> Future[Tensor]:
    """As DistributedDataParallel does it, but note the seconds from the gradients' being there to their sum's."""
    started = time.perf_counter()
    future = allreduce_hook(None, bucket)
    future.wait()  # all gradients of this network are one bucket: nothing is left to compute meanwhile
    waits.append(time.perf_counter() - started)
    return future


def first(dataset: TensorDataset, count: int) -> TensorDataset:
    return TensorDataset(*dataset[:count])


def measure(processes: int, threads: int, batch_sizes: list[int], data_dir: str) -> dict[int, dict]:
    """Start so many processes; return what they measured, by batch size."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(torchrun if processes > 1 else [])]
    worker = ["-m", "benchmarks.scaling", "--data-dir", data_dir, "--measure", *map(str, batch_sizes)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}
    output = subprocess.run(
        [*command, *worker], cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return {record["batch_size"]: record for record in map(json.loads, output.splitlines())}


def compare_layouts(runs: dict[tuple[int, int], list[dict]]) -> str:
    """Return the table of what was measured: medians over the turns, and of each turn's ratio to the first layout."""
    rows = []
    for batch_size in BATCHES:
        for (processes, threads), turns in runs.items():
            rates = [turn[batch_size]["images_per_second"] for turn in turns]
            ratios = [
                rate / base[batch_size]["images_per_second"] for rate, base in zip(rates, runs[LAYOUTS[0]], strict=True)
            ]
            step, waiting = (statistics.median(turn[batch_size][name] for turn in turns)
                             for name in ("milliseconds", "allreduce_milliseconds"))  # fmt: skip
            share = f"{waiting / step:.0%}" if processes > 1 else ""
            rows.append([
                str(batch_size), str(processes), str(threads), f"{statistics.median(rates):,.0f}",
                f"{statistics.median(ratios):.2f} x", f"{step:.2f}", f"{waiting:.2f}" if processes > 1 else "", share,
            ])  # fmt: skip
    heading = [
        "Global batch",
        "Processes",
        "Threads of each",
        "Images/s",
        "Faster",
        "Step, ms",
        "of which all-reduce, ms",
        "share",
    ]
    return table(heading, rows)


def fit(milliseconds: dict[int, float]) -> tuple[float, float]:
    """Return a and b of a step's milliseconds, a + b * images; the relative errors' squares are least."""
    images, times = np.array(list(milliseconds), float), np.array(list(milliseconds.values()))
    a, b = np.linalg.lstsq(np.stack([1 / times, images / times], axis=1), np.ones(len(times)), rcond=None)[0]
    return float(a), float(b)


def step_milliseconds(processes: int, batch_size: int, a: float, b: float, latency_us: float, gigabits: float) -> float:
    """Return what a step should take: the computing of a shard, then a ring all-reduce.

    Source: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms" (2009), doi:10.1016/j.jpdc.2008.09.002.
    """
    message = latency_us / 1000 + GRADIENT_BYTES / processes * 8 / (gigabits * 1e6)
    return a + b * batch_size / processes + 2 * (processes - 1) * message


def extend(milliseconds: dict[int, float], latency_us: float, gigabits: float) -> str:
    """Return the explanation and the table of what is to be expected of many processes."""
    a, b = fit(milliseconds)
    error = max(abs((a + b * images) / time - 1) for images, time in milliseconds.items())
    rows, most = [], dict.fromkeys(BATCHES, (0.0, 0))
    for processes in PROCESSES_ON_PAPER:
        row = [str(processes)]
        for batch_size in BATCHES:
            one, step = (step_milliseconds(p, batch_size, a, b, latency_us, gigabits) for p in (1, processes))
            row += [f"{step:.2f}", f"{one / step:.1f} x"]
            most[batch_size] = max(most[batch_size], (one / step, processes))
        rows.append(row)
    text = EXPLANATION.format(
        fixed=a, per_image=b, shares=", ".join(map(str, milliseconds)), error=error, bytes=GRADIENT_BYTES,
        latency=latency_us, gigabits=gigabits,
        most=" and ".join(
            f"more than {count} processes make batches of {size} slower again" for size, (_, count) in most.items()
        ),
    )  # fmt: skip
    heading = ["Processes", *(f"{name} {size}" for size in BATCHES for name in ("Step of batch", "Faster, batch"))]
    return text + "\n\n" + table(heading, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=user_path, default=REPOSITORY / "data", help="folder of MNIST (default: data)"
    )
    parser.add_argument("--output", type=user_path, help="write the tables there too")
    parser.add_argument("--repeats", type=int, default=5, help="turns (default: 5)")
    parser.add_argument("--latency-us", type=float, default=50.0, help="of a message, on paper (default: 50)")
    parser.add_argument("--gigabits", type=float, default=10.0, help="a second, on paper (default: 10)")
    parser.add_argument("--measure", type=int, nargs="+", help=argparse.SUPPRESS)  # the processes that this starts
    args = parser.parse_args()
    data_dir = str(args.data_dir.resolve())
    if args.measure:
        measure_here(args.measure, data_dir)
        return
    runs = {layout: [] for layout in LAYOUTS}
    shards = []
    for _ in range(args.repeats):
        for layout, turns in runs.items():
            turns.append(measure(*layout, BATCHES, data_dir))
        shards.append(measure(1, 1, SHARDS, data_dir))
    milliseconds = {size: statistics.median(turn[size]["milliseconds"] for turn in shards) for size in SHARDS}
    machine = f"{describe_machine()}; {describe_versions()}"
    parts = [machine, compare_layouts(runs), extend(milliseconds, args.latency_us, args.gigabits)]
    print(text := "\n\n".join(parts))
    if args.output:
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
