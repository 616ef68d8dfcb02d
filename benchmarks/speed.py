"""Compare the speed of train.py with that of the textbook loop, side by side; every number is measured in this run.

    python -m benchmarks.speed [--data-dir data] [--output results/speed.md]

Takes about twenty minutes on two CPU cores. Leave the machine alone meanwhile. Where TensorFlow is installed, the same
network in Keras takes part, too.
"""

import argparse
import importlib.util
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode

import train
from benchmarks import REPOSITORY
from benchmarks.markdown import table
from common.command_line import user_path
from model import DigitCNN
from training.config import TrainConfig
from training.metrics import read_metrics

IMAGES = 55_000  # in an epoch of either loop
FIRST_SEED = 100  # of the runs to 99%: none by which anything was chosen
TEXTBOOK_LINE = re.compile(
    r"validation accuracy ([\d.]+), test accuracy ([\d.]+), ([\d.]+) s training, ([\d.]+) s with evaluations"
)


class Run(NamedTuple):
    """What one process did."""

    train_seconds: list[float]  # of each epoch
    epoch_seconds: list[float]  # the same with the evaluations (and train.py's saving)
    validation_accuracies: list[float]  # after each epoch
    test_accuracies: list[float]
    seconds: float  # from the start of the process to its end
    peak_megabytes: float


def describe_machine() -> str:
    """Return the name of the CPU and how many cores it has."""
    cpuinfo = Path("/proc/cpuinfo")  # of Linux
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def describe_versions() -> str:
    return f"Python {platform.python_version()}, torch {torch.__version__}"


def run(command: list[str], threads: int | None = None) -> tuple[str, float, float]:
    """Run a Python script; return what it printed, its seconds from start to end, and its peak memory in MB."""
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True
    )
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    return output, seconds, usage.ru_maxrss / 1000


def run_ours(flags: list[str], data_dir: str, threads: int | None = None) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        _, seconds, peak = run(
            ["train.py", "--device", "cpu", "--data-dir", data_dir, "--output-dir", folder, *flags], threads
        )
        history = read_metrics(Path(folder) / "metrics.csv")
        mean_epoch = json.loads((Path(folder) / "run.json").read_text())["seconds"] / len(history)
    return Run(
        [e.train_seconds for e in history],
        [mean_epoch] * len(history),
        [e.validation_accuracy for e in history],
        [e.test_accuracy for e in history],
        seconds,
        peak,
    )


def run_loop(script: str, flags: list[str], data_dir: str) -> Run:
    output, seconds, peak = run([f"benchmarks/{script}", "--data-dir", data_dir, *flags])
    epochs = [tuple(map(float, line)) for line in TEXTBOOK_LINE.findall(output)]
    validation_accuracies, test_accuracies, train_seconds, epoch_seconds = map(list, zip(*epochs, strict=True))
    return Run(train_seconds, epoch_seconds, validation_accuracies, test_accuracies, seconds, peak)


def flops_per_image() -> float:
    """Count the floating-point operations of forward and backward pass, as PyTorch's counter does."""
    model = DigitCNN()
    with FlopCounterMode(display=False) as counter:
        model(torch.rand(128, 1, 28, 28)).sum().backward()
    return counter.get_total_flops() / 128


def matmul_flops_per_second(size: int = 1024) -> float:
    """Measure the machine's own rate: the best of ten float32 products of square matrices."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    times = []
    for _ in range(10):
        started = time.perf_counter()
        for _ in range(10):
            a @ b
        times.append((time.perf_counter() - started) / 10)
    return 2 * size**3 / min(times)


def compare_epochs(data_dir: str, repeats: int) -> str:
    """Time an epoch of each loop, in turns, so that a busy moment of the machine hits all alike."""
    loops = {
        "train.py": lambda: run_ours(["--epochs", "1"], data_dir),
        "train.py --amp": lambda: run_ours(["--epochs", "1", "--amp"], data_dir),
        "textbook loop with RandomAffine": lambda: run_loop("textbook.py", ["--epochs", "1", "--affine"], data_dir),
        "train.py --no-augment": lambda: run_ours(["--epochs", "1", "--no-augment"], data_dir),
        "textbook loop": lambda: run_loop("textbook.py", ["--epochs", "1"], data_dir),
        "textbook loop, 2 loading processes": lambda: run_loop(
            "textbook.py", ["--epochs", "1", "--workers", "2"], data_dir
        ),
    }
    if importlib.util.find_spec("tensorflow"):
        loops["Keras"] = lambda: run_loop("keras_loop.py", ["--epochs", "1"], data_dir)
    results = {name: [] for name in loops}
    rates = []
    for _ in range(repeats):
        rates.append(matmul_flops_per_second())
        for name, loop in loops.items():
            results[name].append(loop())
    flops, rate = flops_per_image(), statistics.median(rates)
    references = {"train.py": "textbook loop with RandomAffine", "train.py --amp": "textbook loop with RandomAffine",
                  "train.py --no-augment": "textbook loop"}  # fmt: skip
    rows = []
    for name, runs in results.items():
        train_seconds = statistics.median(r.train_seconds[0] for r in runs)
        epoch_seconds = statistics.median(r.epoch_seconds[0] for r in runs)
        peak = statistics.median(r.peak_megabytes for r in runs)
        ratios = [""] * 3
        if reference := references.get(name):
            pairs = list(zip(results[reference], runs, strict=True))
            ratios = [
                f"{statistics.median(slow.train_seconds[0] / fast.train_seconds[0] for slow, fast in pairs):.2f} x",
                f"{statistics.median(slow.epoch_seconds[0] / fast.epoch_seconds[0] for slow, fast in pairs):.2f} x",
                f"{statistics.median(fast.peak_megabytes / slow.peak_megabytes for slow, fast in pairs):.0%}",
            ]
        rows.append(
            [
                f"`{name}`" if name.startswith("train") else name,
                f"{train_seconds:.2f}",
                ratios[0],
                f"{epoch_seconds:.2f}",
                ratios[1],
                f"{IMAGES / train_seconds:,.0f}",
                f"{flops * IMAGES / train_seconds / rate:.0%}",
                f"{peak:.0f}",
                ratios[2],
            ]
        )
    heading = ["One epoch", "training, s", "speed-up", "with evaluations, s", "speed-up", "images/s in training"]
    heading += ["share of matrix-multiply rate", "peak memory, MB", "share of textbook's"]
    keras = ""
    if "Keras" in results:
        pairs = list(zip(results["Keras"], results["train.py --no-augment"], strict=True))
        ratio = statistics.median(slow.epoch_seconds[0] / fast.epoch_seconds[0] for slow, fast in pairs)
        keras = f" Keras takes {ratio:.2f} times as long as `train.py --no-augment`, evaluations included."
    return (
        f"{table(heading, rows)}\n\nMedians of {repeats} runs, taken in turns; a speed-up is the median of each turn's "
        "ratio, to the textbook loop with RandomAffine where `train.py` augments (by elastic distortion, too), and to "
        "the plain one where it does not. Memory is that of the main process. The network costs "
        f"{flops / 1e6:.2f} MFLOP per training image; this machine multiplies float32 matrices at "
        f"{rate / 1e9:.0f} GFLOP/s.{keras}"
    )


def compare_time_to_99(data_dir: str, seeds: int, textbook_seeds: int) -> str:
    """Time both from the start of the process to the end of the first epoch with 99% test accuracy."""
    until_99 = ["--epochs", "30", "--until", "0.99", "--seed"]
    rows, seconds = [], {}
    for name, count, command in [
        ("`train.py --epochs 1`", seeds, lambda seed: run_ours(["--epochs", "1", "--seed", seed], data_dir)),
        ("`train.py --epochs 2`", seeds, lambda seed: run_ours(["--epochs", "2", "--seed", seed], data_dir)),
        ("textbook loop until 99%", textbook_seeds, lambda seed: run_loop("textbook.py", [*until_99, seed], data_dir)),
    ]:
        runs = [command(str(FIRST_SEED + number)) for number in range(count)]
        seconds[name] = statistics.mean(r.seconds for r in runs)
        epochs, accuracies = [len(r.train_seconds) for r in runs], [r.test_accuracies[-1] for r in runs]
        rows.append([name, str(count), f"{statistics.mean(epochs):.1f}", f"{seconds[name]:.1f}",
                     f"{statistics.mean(accuracies):.2%}", f"{min(accuracies):.2%}"])  # fmt: skip
    for row in rows:
        row.append(f"{seconds['textbook loop until 99%'] / seconds[row[0]]:.1f} x")
    heading = ["From process start to 99%", "runs", "epochs", "seconds", "test accuracy", "lowest", "faster"]
    seeds_used = f"seeds {FIRST_SEED}, {FIRST_SEED + 1}, ..."
    return f"{table(heading, rows)}\n\nMeans over runs of {seeds_used}; imports and the end of the process included."


def measure_scaling(data_dir: str) -> str:
    """Time an epoch at batch sizes from 32 to 4096 on 1, 2, ... all threads."""
    threads = sorted({1, 2, os.cpu_count() or 1})
    rows = []
    for batch_size in (32, 64, 128, 256, 512, 1024, 2048, 4096):
        runs = [run_ours(["--epochs", "1", "--batch-size", str(batch_size)], data_dir, n) for n in threads]
        rows.append(
            [str(batch_size), *(f"{r.train_seconds[0]:.2f}" for r in runs), f"{runs[-1].validation_accuracies[0]:.2%}"]
        )
    heading = [
        "Batch size",
        *(f"{n} thread{'s' * (n > 1)}: seconds" for n in threads),
        "validation accuracy after the epoch",
    ]
    return f"{table(heading, rows)}\n\nOne run each, of seed 0, with the same learning rate for all batch sizes."


def profile_epoch() -> str:
    """List where the time of 100 training steps goes, by the operators' own time."""
    images = torch.randint(256, (100 * 128, 28, 28), dtype=torch.uint8)
    dataset, config = TensorDataset(images, torch.randint(10, (len(images),))), TrainConfig(epochs=1)
    parts = train.build(config, torch.device("cpu"))
    train.train_one_epoch(*parts, dataset, config, 1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        train.train_one_epoch(*parts, dataset, config, 1)
    operators = sorted(profile.key_averages(), key=lambda operator: operator.self_cpu_time_total, reverse=True)
    total = sum(operator.self_cpu_time_total for operator in operators)
    rows = [[f"`{operator.key}`", f"{operator.self_cpu_time_total / total:.0%}"] for operator in operators[:8]]
    return table(["Operator", "share of a training step"], rows)


def report(heading: str, measures: list[Callable[[], str]], output: Path | None) -> None:
    """Print the heading, and each text as it is measured; write all of them to the file output, too."""
    parts = [heading]
    for measure in measures:
        print(parts[-1] + "\n", flush=True)
        parts.append(measure())
    print(parts[-1])
    if output:
        output.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=user_path, default=REPOSITORY / "data", help="folder of MNIST (default: data)"
    )
    parser.add_argument("--output", type=user_path, help="write the tables there too")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each loop (default: 5)")
    parser.add_argument("--seeds", type=int, default=10, help="runs of train.py to 99%% (default: 10)")
    parser.add_argument("--textbook-seeds", type=int, default=3, help="runs of the textbook loop to 99%% (default: 3)")
    args = parser.parse_args()
    data_dir = str(args.data_dir.resolve())
    heading = (f"{describe_machine()}, {torch.get_num_threads()} threads; {describe_versions()}; "
               f"batch size 128, {IMAGES:,} training images")  # fmt: skip
    measures = [
        lambda: compare_epochs(data_dir, args.repeats),
        lambda: compare_time_to_99(data_dir, args.seeds, args.textbook_seeds),
        lambda: measure_scaling(data_dir),
        profile_epoch,
    ]
    report(heading, measures, args.output)


if __name__ == "__main__":
    main()
