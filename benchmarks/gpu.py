"""Measure train.py on a GPU: ten epochs, what takes their time, mixed precision, compilation and large batches.

    python -m benchmarks.gpu [--data-dir data] [--output results/gpu.md]

Takes about three minutes. Every number is measured in this run, on one GPU, most of them in this process.
"""

import argparse
import contextlib
import functools
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import nn
from torch.utils.data import TensorDataset

import train
from benchmarks import REPOSITORY, speed
from benchmarks.markdown import table
from common.command_line import user_path
from mnist.dataset import Data, load_data
from training.config import TrainConfig
from training.metrics import best_epoch, summarize

LARGE_BATCHES = {1024: (0.01, 0.02), 4096: (0.02, 0.04)}  # batch size -> learning rates


class Run(NamedTuple):
    seconds: float  # of ten epochs, with their evaluations
    validation_accuracy: float  # of the last epoch
    test_accuracy: float  # of the epoch that best.pt is


def unchanged(model: nn.Module) -> Callable:
    return model


def compiled(model: nn.Module) -> Callable:
    """Let torch.compile make the network's kernels, and CUDA graphs of them."""
    return torch.compile(model, mode="reduce-overhead", dynamic=False)


def graphed(model: nn.Module) -> Callable:
    """Launch the network's forward and backward pass as one CUDA graph each, but for the last batch of an epoch."""
    example = torch.rand(TrainConfig.batch_size, 1, 28, 28, device="cuda")
    # The forward method of what it gets is replaced: of a wrapper, as the last batch needs the network's own.
    graph = torch.cuda.make_graphed_callables(nn.Sequential(model.train()), (example,))

    def forward(images: torch.Tensor) -> torch.Tensor:
        return graph(images) if images.shape == example.shape else model(images)

    return forward


def run(config: TrainConfig, data: Data, change: Callable = unchanged) -> Run:
    """Train as train.py does; what runs forward and backward in a training step is the network after the change."""
    train_one_epoch, change = train.train_one_epoch, functools.cache(change)  # changed once, not in each epoch

    def train_changed(model, average, ddp_model, *arguments):
        return train_one_epoch(model, average, change(model), *arguments)

    started = time.perf_counter()
    quiet, changed = contextlib.redirect_stdout(io.StringIO()), patch.object(train, "train_one_epoch", train_changed)
    with tempfile.TemporaryDirectory() as folder, quiet, changed:
        history = train.fit(config, data, Path(folder))
    seconds = time.perf_counter() - started
    return Run(seconds, history[-1].validation_accuracy, best_epoch(history).test_accuracy)


def compare_runs(data: Data, data_dir: str) -> str:
    """Time whole runs, and the first epoch of the textbook loop."""
    loop, on_gpu = (
        speed.run_loop("textbook.py", ["--epochs", "1", "--device", "cuda", *flags], data_dir).epoch_seconds[0]
        for flags in ([], ["--on-device"])
    )
    variants = {
        "`train.py`": (TrainConfig(), unchanged, 3),
        "`train.py --amp`": (TrainConfig(amp=True), unchanged, 2),
        "network in CUDA graphs (`torch.cuda.make_graphed_callables`)": (TrainConfig(), graphed, 2),
        "network compiled (`torch.compile`, `reduce-overhead`)": (TrainConfig(), compiled, 2),
    }
    rows, ours = [], None
    for name, (config, change, count) in variants.items():
        runs = [run(replace(config, seed=seed), data, change) for seed in range(count)]
        later = statistics.median(r.seconds for r in runs[1:])
        ours = ours or later
        accuracy = sum(r.test_accuracy for r in runs) / count
        rows.append(
            [name, str(count), f"{runs[0].seconds:.1f}", f"{later:.1f}", f"{ours / later:.1f} x", f"{accuracy:.2%}"]
        )
    heading = ["Ten epochs with evaluations", "runs", "first run, s", "later runs, s", "speed-up over `train.py`"]
    return (
        f"{table([*heading, 'test accuracy'], rows)}\n\nThese ran one after the other in a process that had used the "
        "GPU before; the first run of a compiled network contains the compilation. Accuracy is the "
        "mean of best.pt. The first epoch of the textbook loop in a process of its own, the start of CUDA included, "
        f"took {loop:.1f} s; with its data on the GPU {on_gpu:.1f} s."
    )


def compare_batches(data: Data) -> str:
    """Train ten epochs with large batches, at several learning rates."""
    rows = []
    for batch_size, rates in LARGE_BATCHES.items():
        for rate in rates:
            runs = [run(TrainConfig(batch_size=batch_size, learning_rate=rate, seed=seed), data) for seed in range(3)]
            scores = [[getattr(r, f"{split}_accuracy") for r in runs] for split in ("validation", "test")]
            seconds = statistics.median(r.seconds for r in runs)
            rows.append([str(batch_size), f"{rate:g}", f"{seconds:.2f}", *(summarize("accuracy", s) for s in scores)])
    text = table(["Batch size", "learning rate", "ten epochs, s", "validation accuracy", "test accuracy"], rows)
    return (
        f"{text}\n\nThree runs each: median, and means ± standard deviations, of the last epoch on the validation "
        "images and of best.pt on the test images."
    )


def profile_steps(device: torch.device) -> str:
    """Compare the time of a training step with the time that its kernels take on the GPU."""
    images = torch.randint(256, (100 * 128, 28, 28), dtype=torch.uint8, device=device)
    dataset = TensorDataset(images, torch.randint(10, (len(images),), device=device))
    config = TrainConfig(epochs=1)
    parts = train.build(config, device)
    train.train_one_epoch(*parts, dataset, config, 1)
    started = time.perf_counter()
    train.train_one_epoch(*parts, dataset, config, 1)
    step = (time.perf_counter() - started) / 100
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        train.train_one_epoch(*parts, dataset, config, 1)
    on_gpu = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    kernels = [event for event in on_gpu if not event.is_user_annotation]  # such as the optimizer's span over its own
    busy = sum(event.self_device_time_total for event in kernels) / 100 / 1e6
    number = torch.zeros(1, device=device)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(1000):
        number.add_(1)
    torch.cuda.synchronize()
    launch = (time.perf_counter() - started) / 1000
    return (
        f"A training step takes {step * 1e3:.2f} ms. The GPU is busy for {busy * 1e3:.2f} ms of it, with "
        f"{len(kernels) / 100:.0f} kernels and copies. To add 1 to a number takes {launch * 1e6:.0f} µs."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=user_path, default=REPOSITORY / "data", help="folder of MNIST (default: data)"
    )
    parser.add_argument("--output", type=user_path, help="write the tables there too")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("there is no GPU that PyTorch can use")
    device, data_dir = torch.device("cuda"), str(args.data_dir.resolve())
    torch.backends.cudnn.deterministic = True  # as in train.py
    data = load_data(TrainConfig(), args.data_dir, device)
    name = torch.cuda.get_device_name()
    heading = f"{name}; {speed.describe_machine()}; {speed.describe_versions()}; batch size 128 unless stated otherwise"
    run(TrainConfig(epochs=1), data)  # loads CUDA's libraries
    measures = [
        lambda: profile_steps(device),
        lambda: compare_runs(data, data_dir),
        lambda: compare_batches(data),
    ]
    speed.report(heading, measures, args.output)


if __name__ == "__main__":
    main()
