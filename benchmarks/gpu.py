"""Measure train.py on a GPU: ten epochs, what takes their time, mixed precision, compilation and large batches.

    python benchmarks/gpu.py [--data-dir data] [--output results/gpu.md]

Takes about three minutes. Every number is measured in this run, on one GPU, most of them in this process.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import TensorDataset  # noqa: E402

import train  # noqa: E402
from benchmarks import speed  # noqa: E402
from benchmarks.markdown import table  # noqa: E402
from mnist.dataset import Data, load_data  # noqa: E402
from training.config import TrainConfig  # noqa: E402
from training.metrics import best_epoch, summarize  # noqa: E402

LARGE_BATCHES = {1024: (0.01, 0.02), 4096: (0.02, 0.04)}  # batch size -> learning rates


class Run(NamedTuple):
    seconds: float  # of ten epochs, with their evaluations
    validation_accuracy: float  # of the last epoch
    test_accuracy: float  # of the epoch that best.pt is


def unchanged(training: train.Training) -> train.Training:
    return training


def compiled(training: train.Training) -> train.Training:
    """Let torch.compile make the network's kernels, and CUDA graphs of them."""
    return training._replace(ddp_model=torch.compile(training.model, mode="reduce-overhead", dynamic=False))


def graphed(training: train.Training) -> train.Training:
    """Launch the network's forward and backward pass as one CUDA graph each, but for the last batch of an epoch."""
    whole = (torch.rand(TrainConfig.batch_size, 1, 28, 28, device="cuda"),)
    graph = torch.cuda.make_graphed_callables(nn.Sequential(training.model.train()), whole)
    return training._replace(
        ddp_model=lambda images: (graph if images.shape == whole[0].shape else training.model)(images)
    )


def run(config: TrainConfig, data: Data, change: Callable = unchanged) -> Run:
    """Train as train.py does, but for its files."""
    started = time.perf_counter()
    training = change(train.build_training(config, data.test.tensors[0].device))
    history = [train.run_epoch(training, data, config, epoch) for epoch in range(1, config.epochs + 1)]
    seconds = time.perf_counter() - started
    return Run(seconds, history[-1].validation_accuracy, best_epoch(history).test_accuracy)


def compare_runs(data: Data, data_dir: str) -> str:
    """Time whole runs, and an epoch of the textbook loop."""
    loops = {"textbook loop": [], "textbook loop, its data on the GPU": ["--on-device"]}
    seconds, rows = {}, []
    for name, flags in loops.items():
        epoch = speed.run_loop("textbook.py", ["--epochs", "1", "--device", "cuda", *flags], data_dir)
        seconds[name] = 10 * epoch.epoch_seconds[0]
    variants = {
        "`train.py`": (TrainConfig(), unchanged, 3),
        "`train.py --amp`": (TrainConfig(amp=True), unchanged, 2),
        "network in CUDA graphs (`torch.cuda.make_graphed_callables`)": (TrainConfig(), graphed, 2),
        "network compiled (`torch.compile`, `reduce-overhead`)": (TrainConfig(), compiled, 2),
    }
    for name, (config, change, count) in variants.items():
        runs = [run(replace(config, seed=seed), data, change) for seed in range(count)]
        print(name, runs, flush=True)
        later = seconds[name] = statistics.median(r.seconds for r in runs[1:])
        ratios = [f"{seconds[other] / later:.1f} x" for other in (*loops, "`train.py`")]
        accuracy = summarize("accuracy", [r.test_accuracy for r in runs])
        rows.append([name, f"{runs[0].seconds:.1f}", f"{later:.1f}", *ratios, accuracy])
    heading = ["Ten epochs with evaluations", "first run, s", "later runs, s", "faster than the textbook loop"]
    heading += ["than that with its data on the GPU", "than `train.py`", "test accuracy"]
    times = " and ".join(f"{seconds[name]:.1f} s" for name in loops)
    return (
        f"{table(heading, rows)}\n\nTen epochs of the textbook loop, measured in one, take {times} (its data on the "
        "GPU). The first run of a compiled network contains the compilation. Accuracy is that of best.pt, over two "
        "runs or three."
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
            print(rows[-1], flush=True)
    return table(["Batch size", "learning rate", "ten epochs, s", "validation accuracy", "test accuracy"], rows)


def profile_steps(device: torch.device) -> str:
    """Compare the time of a training step with the time that its kernels take on the GPU."""
    images = torch.randint(256, (100 * 128, 28, 28), dtype=torch.uint8, device=device)
    dataset = TensorDataset(images, torch.randint(10, (len(images),), device=device))
    config = TrainConfig(epochs=1)
    training = train.build_training(config, device)
    train.train_one_epoch(training, dataset, config, 1)
    started = time.perf_counter()
    train.train_one_epoch(training, dataset, config, 1)
    step = (time.perf_counter() - started) / 100
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        train.train_one_epoch(training, dataset, config, 1)
    kernels = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(event.self_device_time_total for event in kernels) / 100 / 1e6
    number = torch.zeros(1, device=device)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(1000):
        number.add_(1)
    torch.cuda.synchronize()
    launch = (time.perf_counter() - started) / 1000
    return (
        f"A training step takes {step * 1e3:.2f} ms. Its {len(kernels) / 100:.0f} kernels and copies keep the GPU busy "
        f"for {busy * 1e3:.2f} ms of them: the rest is Python and PyTorch launching them. To add 1 to a number takes "
        f"{launch * 1e6:.0f} µs here."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=REPOSITORY / "data", help="where MNIST lies (default: data)")
    parser.add_argument("--output", type=Path, help="write the tables there too")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("there is no GPU that PyTorch can use")
    device, data_dir = torch.device("cuda"), str(args.data_dir.resolve())
    torch.backends.cudnn.deterministic = True  # as in train.py
    data = load_data("mnist", args.data_dir, device=device)
    name = torch.cuda.get_device_name()
    parts = [
        f"{name}; {speed.describe_machine()}; {speed.describe_versions()}; batch size 128 unless it says otherwise"
    ]
    run(TrainConfig(epochs=1), data)  # loads CUDA's libraries
    for measure in (
        lambda: profile_steps(device),
        lambda: compare_runs(data, data_dir),
        lambda: compare_batches(data),
    ):
        print(parts[-1] + "\n", flush=True)
        parts.append(measure())
    print(parts[-1])
    if args.output:
        args.output.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
