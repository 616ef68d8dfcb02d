"""Try settings of the recipe, over many seeds. No test image has a say: none is even scored.

    python -m benchmarks.recipe [--data-dir data]            # all of results/recipe.md; about four hours on two cores
    python -m benchmarks.recipe --run weight_decay=0.3 batch_size=64 --seeds 0 1    # one row, or any other recipe

The last 10,000 training images are held out. A run trains on the other 50,000, and is scored on the held-out ones after
its last epoch and, half by half, after the epoch that the other half chooses. Every run is train.py's own code in a
process of one thread. Without --run, runs are added to results/recipe.csv as they end, and what is there is not run
again: delete it after a change of the training code.
"""

import argparse
import csv
import sys
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from statistics import mean

import numpy as np
from torch.utils.data import TensorDataset

from benchmarks import REPOSITORY
from benchmarks.markdown import table
from benchmarks.pool import fit, run_all
from benchmarks.settings import ABLATION, CHANGES, PROMISING
from common.command_line import Parser, command, user_path
from common.files import write_atomically
from mnist.dataset import Data, load_data
from training.config import TrainConfig, flag, parse_arguments
from training.metrics import best_epoch, summarize

RUNS = REPOSITORY / "results" / "recipe.csv"
HELD_OUT = 10_000  # training images
SEEDS = range(20, 23)  # none of those by which the default was chosen
MORE_SEEDS = range(40, 60)
SCORES = ["last_accuracy", "last_loss", "by_loss_accuracy", "by_loss_loss", "by_accuracy_accuracy", "by_accuracy_loss"]
COLUMNS = ["Setting", "Runs", "Accuracy", "Loss"]  # after the last epoch
HEADINGS = [*COLUMNS, "Accuracy less default's, points", "Loss less default's", "`--run`"]
INTRODUCTION = """\
# What was tried

Every run trained ten epochs on the first 50,000 training images; the last 10,000 scored it at its end. The test images
took no part. Mean ± standard deviation over runs of different seeds; losses in nats per image; differences are means
over pairs of runs with the same seed, with their standard errors. All runs are in `recipe.csv`; `python
-m benchmarks.recipe` makes what is missing there and writes this file. A row is made again by `python
-m benchmarks.recipe --run` with what its last column says (`--seeds 20 21 22` is the default; the last table has seeds
40 to 59). The default was chosen by the same held-out images, with other seeds, so the rest looks a little worse than
it is. Three more were tried, which need a change of the program: cosine decay of the learning rate, He initialisation
and bicubic interpolation. None was better than the default; their rows are in this file's history."""
NOISE = """\
The standard error of three runs is itself uncertain. Pooled over this table it is {accuracy:.3f} points and {loss:.4f}:
a difference within twice that can't be told from chance; of settings that change nothing, one in twenty lies beyond."""
CHOICE = """\
## Which epoch best.pt should be

One half of the 10,000 images chose the epoch and the other half scored it, and the reverse. These are means over the
{count} runs of the last table without label smoothing, with standard errors, against the last epoch of the same run:

{table}"""
TABLES = {  # title -> settings, seeds
    "One step at a time, from the textbook recipe to the default": (ABLATION, SEEDS),
    "One change of the default": (CHANGES, SEEDS),
    "The promising ones with twenty other seeds": (PROMISING, MORE_SEEDS),
}


@cache
def load(data_dir: str) -> Data:
    """Load the training images and, in place of validation and test images, each half of the held-out ones."""
    data, half = load_data(TrainConfig(validation_size=HELD_OUT), Path(data_dir)), HELD_OUT // 2
    held_out = data.validation
    return data._replace(validation=TensorDataset(*held_out[half:]), test=TensorDataset(*held_out[:half]))


def run(config: TrainConfig, data_dir: str) -> dict:
    """Train once; return the recipe and the scores.

    Those of the last epoch are of all held-out images. The others are means over both halves, each scoring the epoch
    that the other half chooses: that of the lowest loss, or that of best.pt.
    """
    data = load(data_dir)
    history = fit(config, data)
    swapped = [
        replace(e, validation_accuracy=e.test_accuracy, validation_loss=e.test_loss,
                test_accuracy=e.validation_accuracy, test_loss=e.validation_loss)
        for e in history
    ]  # fmt: skip
    by_loss = [min(h, key=lambda e: e.validation_loss) for h in (history, swapped)]
    by_accuracy = [best_epoch(history), best_epoch(swapped)]
    pairs = [[history[-1], swapped[-1]], by_loss, by_accuracy]
    scores = [mean(getattr(e, field) for e in pair) for pair in pairs for field in ("test_accuracy", "test_loss")]
    return {**asdict(config), **dict(zip(SCORES, scores, strict=True))}


def setting(text: str) -> tuple[str, object]:
    """Return the name and the value of a setting that is given as NAME=VALUE. Raises UserError."""
    name, _, value = text.partition("=")
    switch = {"true": flag(name), "false": flag(f"no_{name}")}.get(value.lower())
    ((given, parsed),) = parse_arguments([switch or f"{flag(name)}={value}"])[1].items()
    return given, parsed


def with_seed(config: TrainConfig, seed: int) -> TrainConfig:
    return replace(config, seed=seed, validation_size=HELD_OUT)


def key(config: TrainConfig) -> tuple[str, ...]:
    return tuple(map(str, asdict(config).values()))


def read_runs() -> dict[tuple[str, ...], dict[str, float]]:
    """Return the scores of the runs in results/recipe.csv."""
    if not RUNS.exists():
        return {}
    with RUNS.open(newline="") as file:
        return {
            # The first runs have no by_loss.
            tuple(list(row.values())[: -len(SCORES)]): {score: float(row[score] or "nan") for score in SCORES}
            for row in csv.DictReader(file)
        }


def run_missing(data_dir: str) -> None:
    """Run what results/recipe.csv does not have, and add it there."""
    columns = [*asdict(TrainConfig()), *SCORES]
    if RUNS.exists() and RUNS.read_text(encoding="utf-8").splitlines()[:1] not in ([], [",".join(columns)]):
        sys.exit(f"{RUNS} is of another version: delete it")
    done = read_runs()
    configs = [with_seed(config, seed) for rows, seeds in TABLES.values() for seed in seeds for config in rows.values()]
    missing = [config for config in dict.fromkeys(configs) if key(config) not in done]
    with RUNS.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if not file.tell():
            writer.writeheader()
        for record in run_all(run, [(config, data_dir) for config in missing]):
            writer.writerow(record)
            file.flush()


def arguments(config: TrainConfig) -> str:
    """Return what differs from the default, as --run takes it."""
    default = asdict(TrainConfig())
    return " ".join(f"{name}={value}" for name, value in asdict(config).items() if value != default[name])


def summarize_scores(records: list[dict[str, float]]) -> list[str]:
    """Return the number of runs, and mean and standard deviation of the last epoch's accuracy and loss, as cells."""
    return [str(len(records)), *(summarize(score, [record[score] for record in records]) for score in SCORES[:2])]


def mean_and_error(values: np.ndarray, decimals: int) -> str:
    """Format the mean of values and its standard error."""
    value = round(values.mean(), decimals) + 0.0  # never -0
    return f"{value:+.{decimals}f} ± {values.std(ddof=1) / np.sqrt(len(values)):.{decimals}f}"


def report(runs: dict) -> str:
    """Return recipe.md."""
    parts = [INTRODUCTION]
    for title, (configs, seeds) in TABLES.items():
        rows, differences = [], []  # differences: of each setting, (runs, 2)
        for name, config in configs.items():
            ours, defaults = ([runs[key(with_seed(c, seed))] for seed in seeds] for c in (config, TrainConfig()))
            row = [name, *summarize_scores(ours)]
            if config == TrainConfig():
                rows.append([*row, "", "", ""])
                continue
            pairs = zip(ours, defaults, strict=True)
            differences.append([[100 * (a["last_accuracy"] - b["last_accuracy"]), a["last_loss"] - b["last_loss"]]
                                for a, b in pairs])  # fmt: skip
            accuracy, loss = np.transpose(differences[-1])
            rows.append([*row, mean_and_error(accuracy, 3), mean_and_error(loss, 4), f"`{arguments(config)}`"])
        parts += [f"## {title}", table(HEADINGS, rows)]
        if seeds == SEEDS:
            errors = np.sqrt(np.var(differences, axis=1, ddof=1).mean(axis=0) / len(seeds))
            parts.append(NOISE.format(accuracy=errors[0], loss=errors[1]))
    unsmoothed = [config for config in PROMISING.values() if config.label_smoothing == 0]
    records = [runs[key(with_seed(config, seed))] for config in unsmoothed for seed in MORE_SEEDS]
    scores = np.array([[record[score] for score in SCORES] for record in records])  # (runs, 6)
    choices = {"lowest validation loss": scores[:, 2:4], "highest validation accuracy": scores[:, 4:]}
    rows = []
    for name, values in choices.items():
        accuracy, loss = (values - scores[:, :2]).T
        rows.append([name, mean_and_error(100 * accuracy, 3), mean_and_error(loss, 5)])
    text = table(["Chosen by", "Accuracy less the last epoch's, points", "Loss less the last epoch's"], rows)
    return "\n\n".join([*parts, CHOICE.format(count=len(records), table=text)]) + "\n"


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser("recipe.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=user_path, default=REPOSITORY / "data", help="folder of MNIST (default: data)"
    )
    parser.add_argument(
        "--run",
        nargs="*",
        type=setting,
        metavar="NAME=VALUE",
        help="run the default with these changes, and print it",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of --run (default: 20 21 22)")
    args = parser.parse_args(argv)
    data_dir = str(args.data_dir.resolve())
    if args.run is not None:
        config = TrainConfig(**dict(args.run))
        records = list(run_all(run, [(with_seed(config, seed), data_dir) for seed in args.seeds]))
        print(table(COLUMNS, [[arguments(config) or "default", *summarize_scores(records)]]))
        return
    run_missing(data_dir)
    write_atomically(RUNS.with_suffix(".md"), text := report(read_runs()))
    print(text)


if __name__ == "__main__":
    raise SystemExit(main())
