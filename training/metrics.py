"""One epoch's record, metrics.csv, and the results table that is made of them. Needs no PyTorch."""

import csv
import io
import math
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from common.command_line import UserError
from common.files import write_atomically


@dataclass(frozen=True)
class EpochMetrics:
    """What one epoch did. Losses are mean nats per image; accuracies are fractions from 0 to 1.

    The training metrics are running ones: the weights still moved and the images were augmented. The others are those
    of the weights that the run uses (averaged, unless averaging is off), after the epoch.
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


COLUMNS = [field.name for field in fields(EpochMetrics)]

# The results table: heading -> the field of EpochMetrics.
TABLE = {
    "Epoch": "epoch",
    "Training accuracy": "train_accuracy",
    "Training loss": "train_loss",
    "Validation accuracy": "validation_accuracy",
    "Validation loss": "validation_loss",
    "Test accuracy": "test_accuracy",
    "Test loss": "test_loss",
}


def best_epoch(history: list[EpochMetrics]) -> EpochMetrics:
    """Return the epoch of highest validation accuracy (ties: the lower validation loss, then the earlier epoch)."""
    return max(history, key=lambda epoch: (epoch.validation_accuracy, -epoch.validation_loss, -epoch.epoch))


def format_value(field: str, value: float) -> str:
    """Format an accuracy as percent, a loss with four decimals, an epoch as a whole number."""
    if field.endswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:.4f}" if field.endswith("loss") else f"{value:.0f}"


def table_row(cells: list[str]) -> str:
    """Return one row of the results table in Markdown, aligned under the headings."""
    return "| " + " | ".join(cell.rjust(len(heading)) for cell, heading in zip(cells, TABLE, strict=True)) + " |"


def table_heading() -> str:
    """Return the two lines that open the results table in Markdown."""
    return table_row(list(TABLE)) + "\n|" + "|".join("-" * (len(heading) + 1) + ":" for heading in TABLE) + "|"


def epoch_row(metrics: EpochMetrics) -> str:
    """Return the results table's row of one epoch of one run."""
    return table_row([format_value(field, getattr(metrics, field)) for field in TABLE.values()])


def write_metrics(path: Path, history: list[EpochMetrics]) -> None:
    """Write metrics.csv whole: a heading, then a row an epoch. Floats keep every bit. Raises UserError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(map(astuple, history))
    write_atomically(path, text.getvalue())


def read_metrics(path: Path) -> list[EpochMetrics]:
    """Read metrics.csv. Raises UserError when it isn't there or isn't what write_metrics writes."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            text = file.read()
        if not text.endswith("\n"):
            raise ValueError("its last line is torn")
        history = [parse_row(row) for row in csv.DictReader(io.StringIO(text, newline=""), strict=True)]
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}; train first, or name a run's folder") from error
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise UserError(f"{path} is no metrics.csv of train.py, or damaged ({error})") from error
    if not history or [epoch.epoch for epoch in history] != list(range(1, len(history) + 1)):
        raise UserError(f"{path} is no metrics.csv of train.py, or damaged (its epochs are not 1, 2, 3, ...)")
    return history


def parse_row(row: dict[str, str]) -> EpochMetrics:
    if list(row) != COLUMNS:
        raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
    metrics = EpochMetrics(int(row["epoch"]), *(float(row[column]) for column in COLUMNS[1:]))
    if not all(math.isfinite(value) for value in asdict(metrics).values()):
        raise ValueError(f"a value of epoch {metrics.epoch} is not finite")
    return metrics


def metrics_from(saved: dict) -> EpochMetrics:
    """Return the record of an epoch that a checkpoint holds. Raises ValueError where it isn't one."""
    metrics = parse_row({column: str(value) for column, value in saved.items()})
    if asdict(metrics) != saved:
        raise ValueError(f"values of epoch {metrics.epoch} are of other types")
    return metrics
