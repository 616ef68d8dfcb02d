"""One epoch's record, metrics.csv, and the results table that is made of them. Needs no PyTorch."""

import csv
import io
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from common.command_line import UserError


@dataclass(frozen=True)
class EpochMetrics:
    """What one epoch did. Losses are mean nats per image; accuracies are fractions from 0 to 1.

    Training metrics are measured while the weights change, on augmented images; the others use the averaged weights.
    Validation metrics are None if no images are held out.
    """

    epoch: int  # from 1
    learning_rate: float  # at the epoch's end
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    test_loss: float
    test_accuracy: float
    train_seconds: float  # the training alone, without evaluations and saving


COLUMNS = [field.name for field in fields(EpochMetrics)]  # of metrics.csv

TABLE = {  # the results table's columns after the epoch, and the field of EpochMetrics that each shows
    f"{split} {quantity}": f"{prefix}_{quantity}"
    for split, prefix in [("Training", "train"), ("Validation", "validation"), ("Test", "test")]
    for quantity in ("accuracy", "loss")
}


def best_epoch(history: list[EpochMetrics]) -> EpochMetrics:
    """Return the epoch of highest validation accuracy (ties: lower loss, then earlier), or the last if none has one."""
    if history[-1].validation_accuracy is None:
        return history[-1]
    return max(history, key=lambda epoch: (epoch.validation_accuracy or 0, -(epoch.validation_loss or 0)))


def summarize(field: str, values: list) -> str:
    """Format accuracies as percent, losses with four decimals: one value, or mean and standard deviation of several."""
    if None in values:  # without validation images
        return "-"
    numbers = [np.mean(values), np.std(values, ddof=1)] if len(values) > 1 else values
    return " ± ".join(f"{number:.2%}" if field.endswith("accuracy") else f"{number:.4f}" for number in numbers)


def describe_best(histories: list[list[EpochMetrics]]) -> str:
    """Say in one line which epoch best.pt is, and its test accuracy and loss, for one run or several."""
    best = [best_epoch(history) for history in histories]
    accuracy, loss = (summarize(f, [getattr(epoch, f) for epoch in best]) for f in ("test_accuracy", "test_loss"))
    lowest = f" (lowest {min(epoch.test_accuracy for epoch in best):.2%})" if len(best) > 1 else ""
    earliest, latest = min(epoch.epoch for epoch in best), max(epoch.epoch for epoch in best)
    epochs = f"epoch {latest}" if earliest == latest else f"best epochs: {earliest} to {latest}"
    choice = "the last epoch" if best[0].validation_accuracy is None else f"chosen by validation accuracy ({epochs})"
    return f"best.pt, {choice}: test accuracy {accuracy}{lowest}, test loss {loss}"


def table_heading() -> str:
    """Return the two lines that open the results table in Markdown."""
    headings = ["Epoch", *TABLE]
    return f"| {' | '.join(headings)} |\n|{'|'.join('-' * (len(heading) + 1) + ':' for heading in headings)}|"


def table_row(*runs: EpochMetrics) -> str:
    """Return an epoch's row of the results table: of one run's values, or mean and standard deviation of several."""
    cells = {heading: summarize(field, [getattr(run, field) for run in runs]) for heading, field in TABLE.items()}
    cells = {"Epoch": str(runs[0].epoch), **cells}
    return "| " + " | ".join(cell.rjust(len(heading)) for heading, cell in cells.items()) + " |"


def metrics_csv(history: list[EpochMetrics]) -> str:
    """Return the content of metrics.csv: a heading, then one row per epoch. Floats keep every bit; None is empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *(astuple(epoch) for epoch in history)])
    return text.getvalue()


def read_metrics(path: Path) -> list[EpochMetrics]:
    """Read the metrics.csv of a run. Raises UserError when it isn't one that train.py writes, or is cut off."""
    if not path.exists():
        raise UserError(f"there is no {path}: train first (python train.py), or give the folder of a run")
    try:
        text = path.read_text(encoding="utf-8")
        heading, *rows = csv.reader(text.splitlines())
        if heading != COLUMNS or not rows or not text.endswith("\n"):
            raise ValueError("the heading, an epoch, or the end of a line is missing")
        return [parse(row) for row in rows]
    except ValueError as error:
        raise UserError(f"{path} is damaged, or was not written by train.py ({error})") from error


def parse(row: list[str]) -> EpochMetrics:
    """Return the metrics in a row of metrics.csv. Raises ValueError."""
    cells = zip(COLUMNS, row, strict=True)
    values: list = [None if name.startswith("validation") and not cell else float(cell) for name, cell in cells]
    return EpochMetrics(int(row[0]), *values[1:])
