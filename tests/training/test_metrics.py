import contextlib
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import REPOSITORY

from common.command_line import UserError
from training.metrics import (
    COLUMNS,
    EpochMetrics,
    best_epoch,
    metrics_csv,
    read_metrics,
    table_heading,
    table_row,
)

HISTORY = [
    EpochMetrics(1, 0.1, 0.5, 0.85, 0.2, 0.95, 0.15, 0.95, 3.1),
    EpochMetrics(2, 1 / 3, 0.12, 0.96, 0.0871, 0.98, 0.08, 0.9801, 2 / 7),
]


WITHOUT_VALIDATION = [replace(epoch, validation_loss=None, validation_accuracy=None) for epoch in HISTORY]


@pytest.mark.parametrize("history", [HISTORY, WITHOUT_VALIDATION], ids=["with validation", "without"])
def test_metrics_come_back_from_the_file_bit_for_bit(tmp_path, history):
    (tmp_path / "metrics.csv").write_text(metrics_csv(history))
    assert read_metrics(tmp_path / "metrics.csv") == history


def test_columns_are_those_of_the_design():
    assert metrics_csv(HISTORY).splitlines()[0] == (
        "epoch,learning_rate,train_loss,train_accuracy,validation_loss,validation_accuracy,"
        "test_loss,test_accuracy,train_seconds"
    )


def test_rows_line_up_under_the_headings_of_the_results_table():
    heading, rule = table_heading().splitlines()
    row = table_row(HISTORY[1])
    assert [cell.strip() for cell in heading.strip("| ").split("|")] == [
        "Epoch", "Training accuracy", "Training loss", "Validation accuracy",
        "Validation loss", "Test accuracy", "Test loss",
    ]  # fmt: skip
    assert [cell.strip() for cell in row.strip("| ").split("|")] == [
        "2", "96.00%", "0.1200", "98.00%", "0.0871", "98.01%", "0.0800",
    ]  # fmt: skip
    bars = [i for i, character in enumerate(heading) if character == "|"]
    assert all(line[i] == "|" for line in (rule, row) for i in bars)


def test_best_epoch_is_chosen_by_validation_accuracy_then_loss_then_the_earlier():
    def epoch(number, accuracy, loss, test_accuracy=0.5):
        return EpochMetrics(number, 0, 0, 0, loss, accuracy, 0, test_accuracy, 0)

    assert best_epoch([epoch(1, 0.9, 0.3), epoch(2, 0.8, 0.1, test_accuracy=1.0)]).epoch == 1
    assert best_epoch([epoch(1, 0.9, 0.3), epoch(2, 0.9, 0.2)]).epoch == 2
    assert best_epoch([epoch(1, 0.9, 0.3), epoch(2, 0.9, 0.3)]).epoch == 1


def test_without_validation_images_the_cells_are_empty_in_the_file_and_dashes_in_the_table_and_the_last_epoch_is_best():
    assert metrics_csv(WITHOUT_VALIDATION).splitlines()[1] == "1,0.1,0.5,0.85,,,0.15,0.95,3.1"
    cells = [cell.strip() for cell in table_row(WITHOUT_VALIDATION[1]).strip("| ").split("|")]
    assert cells == ["2", "96.00%", "0.1200", "-", "-", "98.01%", "0.0800"]
    assert table_row(*WITHOUT_VALIDATION).count(" - |") == 2  # of several runs, too
    assert best_epoch(WITHOUT_VALIDATION).epoch == 2


HEADING = ",".join(COLUMNS)
GOOD_ROW = "1,0.1,0.5,0.85,0.2,0.95,0.15,0.95,3.1"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "hello\nworld\n",
        HEADING + "\n",
        HEADING + "\n" + GOOD_ROW[:20] + "\n",
        HEADING + "\n" + GOOD_ROW + ",7\n",
        HEADING + "\n" + GOOD_ROW.replace("0.85", "good") + "\n",
        HEADING + "\n" + GOOD_ROW.replace("0.85", "") + "\n",
        ",".join(reversed(HEADING.split(","))) + "\n" + GOOD_ROW + "\n",
        "\x00\xff",
    ],
    ids=[
        "empty",
        "text",
        "no epoch",
        "torn",
        "a cell too many",
        "a word",
        "an empty cell",
        "other order",
        "binary",
    ],
)
def test_what_is_no_metrics_csv_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "metrics.csv").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=r"metrics.csv is damaged, or was not written by train.py"):
        read_metrics(tmp_path / "metrics.csv")


def test_metrics_torn_at_any_byte_are_refused_or_have_whole_epochs_only(tmp_path):
    content, whole = metrics_csv(HISTORY).encode(), 0
    for length in range(len(content)):
        (tmp_path / "metrics.csv").write_bytes(content[:length])
        with contextlib.suppress(UserError):
            assert read_metrics(tmp_path / "metrics.csv") == HISTORY[:1]
            whole += 1
    assert whole == 1


def test_neither_metrics_nor_plot_results_imports_torch():
    code = "import sys, training.metrics, plot_results; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


def test_missing_metrics_say_to_train_first(tmp_path):
    with pytest.raises(UserError, match="there is no .*metrics.csv: train first .* or give the folder of a run"):
        read_metrics(tmp_path / "metrics.csv")
