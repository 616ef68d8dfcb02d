"""Hold the textbook recipe against the table that this project set out to reproduce, cell by cell.

    python benchmarks/original.py

Reads the runs in results/textbook (`python train.py --textbook --seed S`) and those in results/textbook-512 (the same
with `--batch-size 512`), and writes results/original.md.
"""

import sys
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks.markdown import table  # noqa: E402
from common.files import write_atomically  # noqa: E402
from training.metrics import TABLE, read_metrics  # noqa: E402

COLUMNS = ["Training accuracy", "Training loss", "Test accuracy", "Test loss"]
ORIGINAL = [  # 10 epochs, Adam, this network: accuracies in percent, losses in nats
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
]


def compare(parent: Path) -> str:
    """Return the original table with the mean of the runs in each cell, and how many cells round to the same."""
    histories = [read_metrics(folder / "metrics.csv") for folder in sorted(parent.glob("seed-*"))]
    rows, same = [], 0
    for number, (original, *epochs) in enumerate(zip(ORIGINAL, *histories, strict=True), 1):
        row = [str(number)]
        for column, value in zip(COLUMNS, original, strict=True):
            ours = float(np.mean([getattr(epoch, TABLE[column]) for epoch in epochs]))
            texts = f"{value}%", f"{ours:.0%}"
            if column.endswith("loss"):
                texts = f"{value:.2f}", f"{ours:.2f}"
            same += texts[0] == texts[1]
            row.append(f"{texts[0]} {'=' if texts[0] == texts[1] else '≠'} {texts[1]}")
        rows.append(row)
    summary = (
        f"{same} of {len(ORIGINAL) * len(COLUMNS)} cells agree with the mean of {len(histories)} seeds, rounded alike."
    )
    return f"{table(['Epoch', *COLUMNS], rows)}\n\n{summary}"


def report() -> str:
    """Return original.md."""
    results = REPOSITORY / "results"
    return (
        f"Original, then `python train.py --textbook`:\n\n{compare(results / 'textbook')}\n\n"
        f"Original, then `python train.py --textbook --batch-size 512`:\n\n{compare(results / 'textbook-512')}\n"
    )


def main() -> None:
    write_atomically(REPOSITORY / "results" / "original.md", text := report())
    print(text)


if __name__ == "__main__":
    main()
