"""What a number of epochs buys: the accuracy of runs of 1 to 40 epochs.

    python -m benchmarks.epochs [--data-dir data]     # about half an hour on two CPU cores

A run is `python train.py --epochs N --seed S` with one thread; those of 10 epochs are those of benchmarks/seeds.py.
Writes results/epochs.csv, with the metrics of best.pt in each run, and results/epochs.md.
"""

import argparse
import csv

from benchmarks import REPOSITORY, seeds
from benchmarks.markdown import table
from common.command_line import user_path
from common.files import read_json, write_atomically
from training.metrics import best_epoch, read_metrics, summarize

RUNS = REPOSITORY / "results" / "epochs.csv"
SEEDS = {1: 10, 2: 10, 3: 5, 5: 5, 20: 3, 40: 3}  # how many for each number of epochs, besides those of 10
FIELDS = ["validation_accuracy", "test_accuracy", "test_loss"]
HEADING = ["Epochs", "Runs", "Validation accuracy", "Test accuracy", "Lowest", "Test loss"]


def read() -> dict[int, list[dict[str, float]]]:
    """Return the scores of best.pt in all runs, for each number of epochs."""
    scores = {epochs: [] for epochs in sorted([*SEEDS, 10])}
    for row in csv.DictReader(RUNS.read_text(encoding="utf-8").splitlines()):
        scores[int(row["epochs"])].append({field: float(row[field]) for field in FIELDS})
    for history in seeds.read(REPOSITORY / "results" / "default")[1]:
        scores[10].append({field: getattr(best_epoch(history), field) for field in FIELDS})
    return scores


def report() -> str:
    """Return the table, of best.pt in each run."""
    rows = []
    for epochs, scores in read().items():
        validation_accuracy, accuracy, loss = (summarize(f, [score[f] for score in scores]) for f in FIELDS)
        lowest = summarize("test_accuracy", [min(score["test_accuracy"] for score in scores)])
        rows.append([str(epochs), str(len(scores)), validation_accuracy, accuracy, lowest, loss])
    return table(HEADING, rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=user_path, default=REPOSITORY / "data", help="folder of MNIST (default: data)"
    )
    args = parser.parse_args()
    lines = [",".join(["git_commit", "epochs", "seed", *FIELDS])]
    for epochs, count in SEEDS.items():
        flags = ["--epochs", str(epochs)]
        for seed, folder in enumerate(seeds.train_seeds(f"epochs-{epochs}", flags, range(count), args.data_dir)):
            best = best_epoch(read_metrics(folder / "metrics.csv"))
            commit = read_json(folder / "run.json")["versions"]["git_commit"]
            lines.append(",".join(map(str, [commit, epochs, seed, *(getattr(best, field) for field in FIELDS)])))
    write_atomically(RUNS, "\n".join(lines) + "\n")
    write_atomically(RUNS.with_suffix(".md"), text := report())
    print(text)


if __name__ == "__main__":
    main()
