from dataclasses import asdict
from itertools import pairwise

import pytest

import train
from benchmarks import original, recipe
from benchmarks.settings import ABLATION, CHANGES
from training.config import TEXTBOOK, TrainConfig, parse_setting
from training.metrics import EpochMetrics, write_metrics


def test_ablation_goes_from_the_textbook_recipe_to_the_default_one_change_after_another():
    steps = [asdict(config) for config in ABLATION.values()]
    assert {name: steps[0][name] for name in TEXTBOOK} == TEXTBOOK
    assert steps[-1] == asdict(TrainConfig())
    assert all(sum(a[name] != b[name] for name in a) == 1 for a, b in pairwise(steps))


def test_each_row_is_run_again_by_the_arguments_that_it_names():
    for config in [*ABLATION.values(), *CHANGES.values()]:
        assert TrainConfig(**dict(map(parse_setting, recipe.arguments(config).split()))) == config


@pytest.mark.parametrize("text", ["speed=1", "augment=perhaps", "batch_size=many", "learning_rate", "epochs=0"])
def test_setting_that_there_is_not_stops_with_one_line(capsys, text):
    assert recipe.main(["--run", text]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_each_half_of_the_held_out_images_scores_the_epoch_that_the_other_half_chooses(data, monkeypatch):
    halves = {3: (0.99, 0.97), 7: (0.96, 0.98), 10: (0.95, 0.93)}  # accuracies of both halves; else 0.9

    def epoch_of_known_scores(training, data, config, epoch):
        chooser, scorer = halves.get(epoch, (0.9, 0.9))
        return EpochMetrics(epoch, 0.01, 0.5, 0.8, 1 - chooser, chooser, 1 - scorer, scorer, 1.0)

    monkeypatch.setattr(recipe, "load", lambda data_dir: data)
    monkeypatch.setattr(train, "run_epoch", epoch_of_known_scores)
    record = recipe.run(TrainConfig(), "")
    assert record["last_accuracy"] == pytest.approx(0.94)
    assert record["best_accuracy"] == pytest.approx((0.97 + 0.96) / 2)  # of epoch 3, then of epoch 7
    assert record["best_loss"] == pytest.approx((0.03 + 0.04) / 2)


def test_comparison_counts_the_cells_that_round_to_the_original(tmp_path):
    rows = [
        EpochMetrics(n, 1e-3, row[1], row[0] / 100, 0.1, 0.9, row[3], row[2] / 100, 1.0)
        for n, row in enumerate(original.ORIGINAL, 1)
    ]
    write_metrics(tmp_path / "seed-0" / "metrics.csv", rows)
    assert "40 of 40 cells" in original.compare(tmp_path)
    rows[0] = EpochMetrics(1, 1e-3, 0.536, 0.85, 0.1, 0.9, 0.15, 0.95, 1.0)  # a loss of 0.54, not 0.53
    write_metrics(tmp_path / "seed-0" / "metrics.csv", rows)
    text = original.compare(tmp_path)
    assert "39 of 40 cells" in text
    assert "0.53 ≠ 0.54" in text
