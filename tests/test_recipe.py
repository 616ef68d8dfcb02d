from dataclasses import asdict
from itertools import pairwise

import pytest
import torch

import optimizer
import train
from benchmarks import original, recipe
from benchmarks.settings import ABLATION, CHANGES, Setting, apply
from mnist import augmentation
from training.config import TEXTBOOK, TrainConfig
from training.metrics import EpochMetrics, write_metrics


def test_without_changes_a_setting_is_the_default_recipe(data):
    config = TrainConfig()
    plain, patched = (train.build_training(config, torch.device("cpu")) for _ in range(2))
    expected = train.train_one_epoch(plain, data.train, config, epoch=1)
    with apply(Setting()):
        assert train.train_one_epoch(patched, data.train, config, epoch=1) == expected
    assert torch.equal(plain.model.fc2.weight, patched.model.fc2.weight)


CHANGED = [
    {"schedule": "cosine"},
    {"ema_ramp": 40},
    {"rotation": 5.0},
    {"initialisation": "he"},
    {"label_smoothing": 0.1},
]
MORE_CHANGED = [
    {"schedule": "hold"},
    {"warm_up": 0.3},
    {"beta2": 0.99},
    {"shear": 5.0},
    {"scale": 0.05},
    {"shift": 1.0},
    {"elastic": 2.0},
    {"control_points": 6},
    {"interpolation": "bicubic"},
    {"final_strength": 1.0},
    {"initialisation": "positive"},
]


@pytest.mark.parametrize(
    "change", CHANGED + [pytest.param(change, marks=pytest.mark.exhaustive) for change in MORE_CHANGED], ids=str
)
def test_what_has_no_flag_changes_the_weights_that_training_gives_and_is_undone(data, change):
    config = TrainConfig(epochs=1)  # a whole run: warm-up and fall
    weights = []
    for setting in (Setting(), Setting(**change), Setting()):
        with apply(setting):
            training = train.build_training(config, torch.device("cpu"))
            train.train_one_epoch(training, data.train, config, epoch=1)
        weights.append(training.averaged_model.fc2.weight)
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])


def test_ablation_goes_from_the_textbook_recipe_to_the_default_one_change_after_another():
    steps = [asdict(setting) for setting in ABLATION.values()]
    assert {name: steps[0][name] for name in TEXTBOOK} == TEXTBOOK
    assert steps[-1] == asdict(Setting())
    assert all(sum(a[name] != b[name] for name in a) == 1 for a, b in pairwise(steps))


def test_each_row_is_run_again_by_the_arguments_that_it_names():
    for setting in [*ABLATION.values(), *CHANGES.values()]:
        assert recipe.parse_setting(recipe.arguments(setting).split()) == setting


@pytest.mark.parametrize(
    "text", ["speed=1", "augment=true", "schedule=cosinus", "initialisation=He", "batch_size=many", "learning_rate"]
)
def test_setting_that_is_none_stops_with_one_line(text):
    with pytest.raises(SystemExit, match=r"^\w+ (is none of|can't be).*$"):
        recipe.parse_setting([text])


def test_each_half_of_the_held_out_images_scores_the_epoch_that_the_other_half_chooses(data, monkeypatch):
    halves = {3: (0.99, 0.97), 7: (0.96, 0.98), 10: (0.95, 0.93)}  # accuracies of both halves; else 0.9

    def epoch_of_known_scores(training, data, config, epoch, step):
        chooser, scorer = halves.get(epoch, (0.9, 0.9))
        return EpochMetrics(epoch, 0.01, 0.5, 0.8, 1 - chooser, chooser, 1 - scorer, scorer, 1.0)

    monkeypatch.setattr(recipe, "load", lambda data_dir: data)
    monkeypatch.setattr(train, "run_epoch", epoch_of_known_scores)
    record = recipe.run(Setting(), 0, "")
    assert record["last_accuracy"] == pytest.approx(0.94)
    assert record["best_accuracy"] == pytest.approx((0.97 + 0.96) / 2)  # of epoch 3, then of epoch 7
    assert record["best_loss"] == pytest.approx((0.03 + 0.04) / 2)


def test_default_of_a_setting_is_what_the_code_does():
    setting = Setting()
    assert (setting.warm_up, setting.beta2) == (optimizer.WARM_UP, 0.999)
    assert (setting.rotation, setting.control_points) == (augmentation.MAX_ROTATION_DEGREES, 4)


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
