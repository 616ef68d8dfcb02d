"""What a number of epochs buys: accuracy and seconds of runs of 1 to 40 epochs.

    python benchmarks/epochs.py [--data-dir data]

A run is `python train.py --epochs N --seed S`. Those of the default recipe that results/ has already are not repeated.
Writes results/epochs.md. Takes about half an hour on two CPU cores; leave the machine alone.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks.markdown import table  # noqa: E402
from common.command_line import UserError  # noqa: E402
from common.files import read_json, write_atomically  # noqa: E402
from plot_results import read_run  # noqa: E402
from training.config import TrainConfig  # noqa: E402
from training.metrics import best_epoch, format_value, read_metrics, summarize  # noqa: E402

RESULTS = REPOSITORY / "results"
SEEDS = {1: 10, 2: 10, 3: 5, 5: 5, 10: 10, 20: 3, 40: 3}  # how many for each number of epochs


def folders(epochs: int) -> list[Path]:
    """Return where the runs of so many epochs are; those of 10 are the default's."""
    parent = RESULTS / ("default" if epochs == 10 else f"epochs/{epochs}")
    return [parent / f"seed-{seed}" for seed in range(SEEDS[epochs])]


def is_done(folder: Path, epochs: int, seed: int) -> bool:
    """Say whether the folder holds the whole run of the default recipe."""
    try:
        config, history = read_run(folder)
    except (OSError, UserError):
        return False
    return config == TrainConfig(epochs=epochs, seed=seed) and len(history) == epochs


def report() -> str:
    """Return the table, of best.pt in each run. The seconds are medians, of training, evaluation and saving."""
    rows = []
    for epochs in SEEDS:
        best = [best_epoch(read_metrics(folder / "metrics.csv")) for folder in folders(epochs)]
        fields = ("validation_accuracy", "test_accuracy", "test_loss")
        validation_accuracy, accuracy, loss = (summarize(f, [getattr(b, f) for b in best]) for f in fields)
        lowest = format_value("test_accuracy", min(b.test_accuracy for b in best))
        seconds = statistics.median(read_json(folder / "run.json")["seconds"] for folder in folders(epochs))
        rows.append([str(epochs), str(len(best)), validation_accuracy, accuracy, lowest, loss, f"{seconds:.1f}"])
    heading = ["Epochs", "Runs", "Validation accuracy", "Test accuracy", "Lowest", "Test loss", "Seconds"]
    return table(heading, rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=REPOSITORY / "data", help="where MNIST lies (default: data)")
    args = parser.parse_args()
    for epochs in SEEDS:
        for seed, folder in enumerate(folders(epochs)):
            if not is_done(folder, epochs, seed):
                command = [sys.executable, "train.py", "--epochs", str(epochs), "--seed", str(seed)]
                command += ["--data-dir", str(args.data_dir.resolve()), "--output-dir", str(folder)]
                subprocess.run(command, cwd=REPOSITORY, check=True)
    write_atomically(RESULTS / "epochs.md", text := report())
    print(text)


if __name__ == "__main__":
    main()
