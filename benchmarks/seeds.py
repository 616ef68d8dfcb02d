"""Train a recipe with many seeds, and keep in results/ what its table and curves need.

    python -m benchmarks.seeds default [--seeds 20] [--data-dir data]
    python -m benchmarks.seeds textbook

Each run is `python train.py --seed S` with one thread, as many at once as there are cores, in runs/NAME/seed-S, which
git ignores; interrupted ones are resumed. Then results/NAME gets results.md and curves.png of plot_results.py,
metrics.csv with the metrics of all runs, and a run.json, which holds for all but its seed and seconds. For the default
recipe it also gets the weights and the pictures of seed 0. Takes about 20 minutes for a recipe on two CPU cores.
"""

import argparse
import json
import sys
from dataclasses import astuple
from pathlib import Path

import evaluate
import plot_results
import train
from benchmarks import REPOSITORY
from benchmarks.pool import run_all
from common.command_line import UserError, user_path
from common.files import read_json, write_atomically
from training.comparison import read_runs
from training.config import TrainConfig
from training.metrics import COLUMNS, EpochMetrics, read_metrics

RECIPES = {"default": [], "textbook": ["--textbook"]}  # name -> flags


def train_seeds(name: str, flags: list[str], seeds: range, data_dir: Path) -> list[Path]:
    """Train with each seed, where that isn't done yet; return the folders of the runs."""
    folders = [REPOSITORY / "runs" / name / f"seed-{seed}" for seed in seeds]
    common = [*flags, "--dataset", "mnist", "--data-dir", str(data_dir.resolve()), "--resume"]
    tasks = [([*common, "--seed", str(seed), "--output-dir", str(f)],) for seed, f in zip(seeds, folders, strict=True)]
    if any(run_all(train.main, tasks)):
        sys.exit("a run has failed")
    return folders


def keep(folders: list[Path], target: Path) -> None:
    """Write the metrics of runs that differ in their seeds alone to target. Raises UserError if more differs."""
    runs = [read_json(folder / "run.json") for folder in folders]
    for run in runs:
        differing = [name for name in run if name not in ("config", "seconds") and run[name] != runs[0][name]]
        if differing:
            raise UserError(f"the runs in {folders[0].parent} differ in {', '.join(differing)}: delete that folder")
    lines = [",".join(["seed", *COLUMNS])]
    for folder, run in zip(folders, runs, strict=True):
        for epoch in read_metrics(folder / "metrics.csv"):
            lines.append(",".join(map(str, [run["config"]["seed"], *astuple(epoch)])))
    write_atomically(target / "metrics.csv", "\n".join(lines) + "\n")
    write_atomically(target / "run.json", json.dumps(runs[0], indent=2) + "\n")


def read(target: Path) -> tuple[list[TrainConfig], list[list[EpochMetrics]]]:
    """Return the recipe and the metrics of each run that keep() wrote."""
    runs = read_runs(target)
    return [run.config for run in runs], [run.history for run in runs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=RECIPES, help="which recipe to train")
    parser.add_argument("--seeds", type=int, default=20, help="how many runs, of seeds 0, 1, ... (default: 20)")
    parser.add_argument(
        "--data-dir", type=user_path, default=REPOSITORY / "data", help="folder of MNIST (default: data)"
    )
    args = parser.parse_args()
    target = REPOSITORY / "results" / args.recipe
    folders = train_seeds(args.recipe, RECIPES[args.recipe], range(args.seeds), args.data_dir)
    if plot_results.main([*map(str, folders), "--output-dir", str(target)]):  # it finds runs of different recipes
        sys.exit(2)
    keep(folders, target)
    if args.recipe == "default":
        best = ["--data-dir", str(args.data_dir), "--pictures", str(target), "--weights", str(target / "weights.pt")]
        sys.exit(evaluate.main([str(folders[0] / "best.pt"), *best]))


if __name__ == "__main__":
    main()
