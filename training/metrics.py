"""One epoch's record, metrics.csv, and the results table that is made of them. Needs no PyTorch."""

from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from common.command_line import UserError
from common.files import write_atomically


@dataclass(frozen=True)
class EpochMetrics:
    """What one epoch did. Losses are mean nats per image; accuracies are fractions from 0 to 1.

    Those of training are running ones, of moving weights and augmented images; the others are of the averaged weights.
    """

    epoch: int  # from 1
    learning_rate: float  # at the epoch's end
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    test_loss: float
    test_accuracy: float
    train_seconds: float  # the training alone, without evaluations and saving


HEADING = ",".join(field.name for field in fields(EpochMetrics))  # of metrics.csv

TABLE = {  # the results table's columns after the epoch, and the field of EpochMetrics that each shows
    "Training accuracy": "train_accuracy",
    "Training loss": "train_loss",
    "Validation accuracy": "validation_accuracy",
    "Validation loss": "validation_loss",
    "Test accuracy": "test_accuracy",
    "Test loss": "test_loss",
}


def best_epoch(history: list[EpochMetrics]) -> EpochMetrics:
    """Return the epoch of highest validation accuracy (ties: the lower validation loss, then the earlier epoch)."""
    return max(history, key=lambda epoch: (epoch.validation_accuracy, -epoch.validation_loss))


def format_value(field: str, value: float) -> str:
    """Format an accuracy as percent, a loss with four decimals."""
    return f"{value:.2%}" if field.endswith("accuracy") else f"{value:.4f}"


def summarize(field: str, values: list[float]) -> str:
    """Format a value, or the mean and the standard deviation (of the sample) of several."""
    text = format_value(field, np.mean(values))
    return f"{text} ± {format_value(field, np.std(values, ddof=1))}" if len(values) > 1 else text


def table_heading() -> str:
    """Return the two lines that open the results table in Markdown."""
    headings = ["Epoch", *TABLE]
    return f"| {' | '.join(headings)} |\n|{'|'.join('-' * (len(heading) + 1) + ':' for heading in headings)}|"


def table_row(*runs: EpochMetrics) -> str:
    """Return the results table's row of an epoch: of one run, or the mean and standard deviation of several."""
    cells = {heading: summarize(field, [getattr(run, field) for run in runs]) for heading, field in TABLE.items()}
    cells = {"Epoch": str(runs[0].epoch), **cells}
    return "| " + " | ".join(cell.rjust(len(heading)) for heading, cell in cells.items()) + " |"


def write_metrics(path: Path, history: list[EpochMetrics]) -> None:
    """Write metrics.csv whole: a heading, then a row an epoch. Floats keep every bit. Raises UserError."""
    rows = [",".join(map(str, astuple(epoch))) for epoch in history]
    write_atomically(path, "\n".join([HEADING, *rows, ""]))


def read_metrics(path: Path) -> list[EpochMetrics]:
    """Read metrics.csv. Raises UserError when it isn't what write_metrics writes, as when its last line is torn."""
    if not path.exists():
        raise UserError(f"there is no {path}: train first (python train.py), or name the folder of a run")
    try:
        heading, *rows, end = path.read_text(encoding="utf-8").split("\n")
        if heading != HEADING or not rows or end:
            raise ValueError("the heading, an epoch, or the end of a line is missing")
        return [EpochMetrics(int(epoch), *map(float, values)) for epoch, *values in (row.split(",") for row in rows)]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not a metrics.csv of train.py, or damaged ({error})") from error
