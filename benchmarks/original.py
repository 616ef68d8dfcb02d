"""Find the settings that give the table which this project set out to reproduce.

    python -m benchmarks.original [--data-dir data]     # about an hour on two CPU cores

Only this much is known of the original: ten epochs, Adam, this network, no validation images. So every run trains on
all 60,000 images, with plain Adam at a constant rate. Settings are compared with the table's four columns, those of the
test images, too: this looks for what the original was, not for what is best. Each setting of GRID is tried with seed 0,
the FINALISTS closest ones with five seeds. What is in results/original.csv is not run again: delete it after a change
of the training code. Writes results/original.md.
"""

import argparse
import csv
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

import train
from benchmarks import REPOSITORY
from benchmarks.markdown import table
from benchmarks.pool import fit, run_all
from common.command_line import user_path
from common.files import write_atomically
from mnist.dataset import Data, load_data
from model import MNIST_MEAN, MNIST_STD, DigitCNN
from training.config import TEXTBOOK, TrainConfig

RUNS = REPOSITORY / "results" / "original.csv"
COLUMNS = ["Training accuracy", "Training loss", "Test accuracy", "Test loss"]
ORIGINAL = np.array([  # accuracies in percent, losses in nats; a row an epoch
    (85, 0.53, 95, 0.15),
    (96, 0.12, 98, 0.08),
    (97, 0.08, 98, 0.06),
    (98, 0.07, 98, 0.05),
    (98, 0.06, 99, 0.04),
    (98, 0.05, 99, 0.04),
    (99, 0.04, 99, 0.04),
    (99, 0.04, 99, 0.04),
    (99, 0.04, 99, 0.04),
    (99, 0.03, 99, 0.03),
])  # fmt: skip


class Setting(NamedTuple):
    """What is not known of the original run."""

    batch_size: int
    learning_rate: float
    normalised: bool  # whether the network sees pixels of mean 0 and standard deviation 1, or from 0 to 1


# Round numbers, such as a person chooses, whose ratio lets the network learn about as fast as the original did.
PAIRS = [(32, 1e-4), (64, 2e-4), (64, 3e-4), (100, 3e-4), (100, 5e-4), (128, 3e-4), (128, 5e-4), (128, 1e-3),
         (256, 5e-4), (256, 1e-3), (512, 1e-3), (1000, 2e-3)]  # fmt: skip
GRID = [Setting(*pair, normalised) for pair, normalised in product(PAIRS, [True, False])]
FINALISTS, SEEDS = 4, range(5)


class WithoutNormalisation(DigitCNN):
    """The same network on pixels from 0 to 1."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images * MNIST_STD + MNIST_MEAN)  # which the network's own normalisation undoes


@cache
def load(data_dir: str) -> Data:
    """Load MNIST with all 60,000 training images in its training split."""
    data = load_data(TrainConfig(), Path(data_dir))
    tensors = zip(data.train.tensors, data.validation.tensors, strict=True)
    return data._replace(train=TensorDataset(*map(torch.cat, tensors)))


def run(setting: Setting, seed: int, data_dir: str) -> tuple[Setting, int, np.ndarray]:
    """Train once; return the setting, the seed, and (epochs, 4) numbers in the units of ORIGINAL."""
    data = load(data_dir)
    chosen = {"batch_size": setting.batch_size, "learning_rate": setting.learning_rate}
    config = TrainConfig(**{**TEXTBOOK, **chosen}, seed=seed, epochs=len(ORIGINAL))
    with patch.object(train, "DigitCNN", DigitCNN if setting.normalised else WithoutNormalisation):
        history = fit(config, data)
    rows = [[100 * e.train_accuracy, e.train_loss, 100 * e.test_accuracy, e.test_loss] for e in history]
    return setting, seed, np.array(rows)


def printed(values: np.ndarray) -> np.ndarray:
    """Return numbers as whole units of the last digit that ORIGINAL has: percent, or hundredths of a nat."""
    return np.rint(values * [1, 100, 1, 100]).astype(int)


def compare(runs: dict[tuple[Setting, int], np.ndarray], setting: Setting) -> tuple[int, int, int, np.ndarray]:
    """Return the cells that the mean of a setting's runs has equal, those within one unit, the runs, and the mean."""
    of_setting = [rows for (other, _), rows in runs.items() if other == setting]
    mean = np.mean(of_setting, axis=0)
    difference = np.abs(printed(mean) - printed(ORIGINAL))
    return int((difference == 0).sum()), int((difference <= 1).sum()), len(of_setting), mean


def ranking(runs: dict[tuple[Setting, int], np.ndarray]) -> list[Setting]:
    """Return the settings that were run, the closest first; before all others those with the most runs."""
    settings = dict.fromkeys(setting for setting, _ in runs)

    def closeness(setting: Setting) -> tuple[int, int, int, float]:
        equal, close, count, mean = compare(runs, setting)
        return -count, -equal, -close, float(np.abs(mean - ORIGINAL).sum())

    return sorted(settings, key=closeness)


def read_runs() -> dict[tuple[Setting, int], np.ndarray]:
    """Return the runs of results/original.csv."""
    runs = {}
    if RUNS.exists():
        for row in csv.reader(RUNS.read_text(encoding="utf-8").splitlines()[1:]):
            key = Setting(int(row[0]), float(row[1]), row[2] == "True"), int(row[3])
            runs.setdefault(key, []).append([float(value) for value in row[5:]])
    return {key: np.array(rows) for key, rows in runs.items()}


def write_runs(runs: dict[tuple[Setting, int], np.ndarray]) -> None:
    lines = ["batch_size,learning_rate,normalised,seed,epoch,train_accuracy,train_loss,test_accuracy,test_loss"]
    for (setting, seed), rows in sorted(runs.items()):
        for epoch, row in enumerate(rows.tolist(), 1):
            lines.append(",".join(map(str, [*setting, seed, epoch, *(round(value, 6) for value in row)])))
    write_atomically(RUNS, "\n".join(lines) + "\n")


def report(runs: dict[tuple[Setting, int], np.ndarray]) -> str:
    """Return original.md: how close each setting comes, and the closest one's table beside the original's."""
    settings = ranking(runs)
    heading = ["Batch size", "Learning rate", "Pixels", "Runs", "Cells equal", "Cells within one unit"]
    rows = []
    for setting in settings:
        equal, close, count, _ = compare(runs, setting)
        pixels = "normalised" if setting.normalised else "0 to 1"
        cells = f"{equal} of {ORIGINAL.size}", f"{close} of {ORIGINAL.size}"
        rows.append([str(setting.batch_size), f"{setting.learning_rate:g}", pixels, str(count), *cells])
    *_, mean = compare(runs, settings[0])
    cells = []
    for epoch, (original, ours) in enumerate(zip(printed(ORIGINAL).tolist(), printed(mean).tolist(), strict=True), 1):
        texts = [[f"{row[0]}%", f"{row[1] / 100:.2f}", f"{row[2]}%", f"{row[3] / 100:.2f}"] for row in (original, ours)]
        pairs = zip(*texts, strict=True)
        cells.append([str(epoch), *(f"{theirs} {'=' if theirs == our else '≠'} {our}" for theirs, our in pairs)])
    best = " | ".join(rows[0][:4])
    return (
        f"{table(heading, rows)}\n\nThe original, and the mean of the first line's runs ({best}):\n\n"
        f"{table(['Epoch', *COLUMNS], cells)}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=user_path, default=REPOSITORY / "data", help="folder of MNIST (default: data)"
    )
    data_dir = str(parser.parse_args().data_dir.resolve())
    runs = read_runs()

    def run_missing(tasks: list[tuple[Setting, int]]) -> None:
        missing = [(*task, data_dir) for task in tasks if task not in runs]
        for setting, seed, rows in run_all(run, missing):
            runs[setting, seed] = rows
            write_runs(runs)

    run_missing([(setting, 0) for setting in GRID])
    first = {key: rows for key, rows in runs.items() if key[1] == 0}
    run_missing(list(product(ranking(first)[:FINALISTS], SEEDS)))
    write_atomically(RUNS.with_suffix(".md"), text := report(runs))
    print(text)


if __name__ == "__main__":
    main()
