from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import torch

import train
from benchmarks import original, pool, recipe, textbook
from benchmarks.settings import ABLATION, CHANGES, PROMISING
from training.config import TEXTBOOK, TrainConfig
from training.metrics import EpochMetrics


def test_ablation_goes_from_the_textbook_recipe_to_the_default_one_change_after_another():
    steps = [asdict(config) for config in ABLATION.values()]
    assert {name: steps[0][name] for name in TEXTBOOK} == TEXTBOOK
    assert steps[-1] == asdict(TrainConfig())
    assert all(sum(a[name] != b[name] for name in a) == 1 for a, b in pairwise(steps))


def test_each_row_is_run_again_by_the_arguments_that_it_names():
    for config in [*ABLATION.values(), *CHANGES.values(), *PROMISING.values()]:
        assert TrainConfig(**dict(map(recipe.setting, recipe.arguments(config).split()))) == config


@pytest.mark.parametrize("text", ["speed=1", "augment=perhaps", "batch_size=many", "learning_rate", "epochs=0"])
def test_setting_that_there_is_not_stops_with_one_line(capsys, text):
    assert recipe.main(["--run", text]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_each_half_of_the_held_out_images_scores_the_epoch_that_the_other_half_chooses(data, monkeypatch):
    accuracies = {3: (0.99, 0.97), 7: (0.96, 0.98), 10: (0.95, 0.93)}  # of both halves; else 0.9
    losses = {4: (0.1, 0.3), 8: (0.4, 0.2)}  # else 0.5

    def epoch_of_known_scores(epoch):
        (one, other), (one_loss, other_loss) = accuracies.get(epoch, (0.9, 0.9)), losses.get(epoch, (0.5, 0.5))
        return EpochMetrics(epoch, 0.01, 0.5, 0.8, one_loss, one, other_loss, other, 1.0)

    monkeypatch.setattr(recipe, "load", lambda data_dir: data)
    monkeypatch.setattr(recipe, "fit", lambda config, data: [epoch_of_known_scores(e + 1) for e in range(10)])
    record = recipe.run(TrainConfig(), "")
    assert record["last_accuracy"] == pytest.approx(0.94)
    assert record["last_loss"] == pytest.approx(0.5)
    assert record["by_accuracy_accuracy"] == pytest.approx((0.97 + 0.96) / 2)  # of epoch 3, then of epoch 7
    assert record["by_accuracy_loss"] == pytest.approx(0.5)
    assert record["by_loss_accuracy"] == pytest.approx(0.9)  # of epoch 4, then of epoch 8
    assert record["by_loss_loss"] == pytest.approx((0.3 + 0.4) / 2)


def test_difference_is_printed_with_its_standard_error():
    assert recipe.mean_and_error(np.array([1.0, 2, 3]), 3) == "+2.000 ± 0.577"
    assert recipe.mean_and_error(np.array([-1e-5, 0, -1e-5]), 3) == "+0.000 ± 0.000"


def test_differences_are_those_of_runs_with_the_same_seed():
    runs = {}
    for configs, seeds in recipe.TABLES.values():
        for config in configs.values():
            for seed in seeds:
                scores = dict.fromkeys(recipe.SCORES, seed / 1000)  # all seeds differ, all settings are alike
                if config.beta2 == 0.99 and seed >= 40:
                    scores["last_accuracy"] += 0.01
                runs[recipe.key(recipe.with_seed(config, seed))] = scores
    rows = [line for line in recipe.report(runs).split("\n## ")[3].splitlines() if line.startswith("| Adam")]
    assert len(rows) == 1
    assert "| +1.000 ± 0.000 | +0.0000 ± 0.0000 |" in rows[0]


def test_run_without_files_trains_as_train_py_does_and_prints_nothing(data, tmp_path, capsys):
    config = TrainConfig(epochs=2, batch_size=100, dataset="synthetic")
    quiet = pool.fit(config, data)
    assert capsys.readouterr().out == ""
    loud = train.fit(config, data, tmp_path)
    assert [replace(epoch, train_seconds=0) for epoch in quiet] == [replace(epoch, train_seconds=0) for epoch in loud]


def test_interrupted_table_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "RUNS", tmp_path / "recipe.csv")
    monkeypatch.setattr(recipe, "TABLES", {"one": ({"default": TrainConfig()}, [1, 2])})
    done = []

    def run_the_first(function, tasks):
        for config, _ in tasks[:1]:
            done.append(config.seed)
            yield {**asdict(config), **dict.fromkeys(recipe.SCORES, 0.5)}

    monkeypatch.setattr(recipe, "run_all", lambda function, tasks: iter([]))
    recipe.run_missing("")  # stopped before the first run had ended
    monkeypatch.setattr(recipe, "run_all", run_the_first)
    for _ in range(3):
        recipe.run_missing("")
    assert done == [1, 2]
    assert len(recipe.read_runs()) == 2


def test_comparison_counts_the_cells_that_round_to_the_original():
    setting = original.GRID[0]
    exact = original.ORIGINAL + [0.4, 0.004, -0.4, -0.004]
    assert original.compare({(setting, 0): exact}, setting)[:2] == (40, 40)
    exact[0] = [86.4, 0.53, 95, 0.17]  # one unit and two units too much
    runs = {(setting, 0): exact, (setting, 1): exact}
    assert original.compare(runs, setting)[:3] == (38, 39, 2)
    assert "| 1 | 85% ≠ 86% | 0.53 = 0.53 | 95% = 95% | 0.15 ≠ 0.17 |" in original.report(runs)


def test_setting_with_more_seeds_and_then_the_closer_one_comes_first():
    far, near, tried_once = original.GRID[:3]
    errors = {(far, 0): 0.02, (far, 1): 0.02, (near, 0): 0.01, (near, 1): 0.01, (tried_once, 0): 0}
    runs = {run: original.ORIGINAL + [0, error, 0, 0] for run, error in errors.items()}
    assert original.ranking(runs) == [near, far, tried_once]


def test_network_without_normalisation_sees_the_pixels_as_they_are():
    images, plain = torch.rand(4, 1, 28, 28), textbook.Net()
    model = original.WithoutNormalisation()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(images), plain(images))


def test_runs_of_the_original_come_back_from_their_file(tmp_path, monkeypatch):
    monkeypatch.setattr(original, "RUNS", tmp_path / "original.csv")
    runs = {(setting, seed): original.ORIGINAL + seed / 100 for setting in original.GRID[:2] for seed in (0, 1)}
    original.write_runs(runs)
    assert original.read_runs().keys() == runs.keys()
    assert all(np.allclose(rows, runs[key]) for key, rows in original.read_runs().items())


@pytest.mark.exhaustive
def test_setting_is_trained_on_all_images_as_the_textbook_recipe_is(data, monkeypatch):
    monkeypatch.setattr(original, "load_data", lambda name, data_dir: data)
    _, seed, rows = original.run(original.Setting(100, 1e-3, True), 7, "somewhere")
    original.load.cache_clear()
    assert (seed, rows.shape) == (7, original.ORIGINAL.shape)
    assert rows[-1][0] > rows[0][0] and rows[-1][1] < rows[0][1]
