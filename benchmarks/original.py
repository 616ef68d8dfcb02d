"""Compare runs with the table that this project set out to reproduce.

    python -m benchmarks.original

Only this much is known of the original: ten epochs, Adam, this network, no validation images. results/original has the
runs of a sweep over the rest; docs/reproduction.md has its command. Settings are compared by the test images, too: this
looks for what the original was, not for what is best. Writes results/original/original.md.
"""

import numpy as np

from benchmarks import REPOSITORY
from benchmarks.markdown import table
from common.files import write_atomically
from plot_results import runs_in
from training.comparison import Run, by_setting, read_run

HEADING = ["Epoch", "Training accuracy", "Training loss", "Test accuracy", "Test loss"]
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


def printed(values: np.ndarray) -> np.ndarray:
    """Return numbers as whole units of the last digit that ORIGINAL has: percent, or hundredths of a nat."""
    return np.rint(values * [1, 100, 1, 100]).astype(int)


def mean_of(runs: list[Run]) -> np.ndarray:
    """Return the mean of the runs as (epochs, 4) numbers, in the columns and units of ORIGINAL."""
    fields = ["train_accuracy", "train_loss", "test_accuracy", "test_loss"]
    return np.mean([[[getattr(e, f) for f in fields] for e in run.history] for run in runs], axis=0) * [100, 1, 100, 1]


def report(groups: dict[str, list[Run]]) -> str:
    """Return how close each setting comes, those of most runs first, and the closest one's table by the original's."""
    means = {name: printed(mean_of(runs)) for name, runs in groups.items()}
    errors = {name: np.abs(mean - printed(ORIGINAL)) for name, mean in means.items()}
    ranked = sorted(errors, key=lambda name: (-len(groups[name]), (errors[name] > 0).sum(), (errors[name] > 1).sum()))
    rows = [
        [name, str(len(groups[name])), *(f"{(errors[name] <= most).sum()} of {ORIGINAL.size}" for most in (0, 1))]
        for name in ranked
    ]
    cells = []
    for epoch, (original, ours) in enumerate(zip(printed(ORIGINAL), means[ranked[0]], strict=True), 1):
        texts = [[f"{row[0]}%", f"{row[1] / 100:.2f}", f"{row[2]}%", f"{row[3] / 100:.2f}"] for row in (original, ours)]
        pairs = zip(*texts, strict=True)
        cells.append([str(epoch), *(f"{theirs} {'=' if theirs == our else '≠'} {our}" for theirs, our in pairs)])
    return (
        f"{table(['Setting', 'Runs', 'Cells equal', 'Cells within one unit'], rows)}\n\n"
        f"The original, and the mean of the first line's runs:\n\n{table(HEADING, cells)}\n"
    )


def main() -> None:
    folder = REPOSITORY / "results" / "original"
    write_atomically(folder / "original.md", text := report(by_setting(map(read_run, runs_in(folder)))))
    print(text)


if __name__ == "__main__":
    main()
