"""The tables in results/ are those that the committed runs give, and docs/ shows them."""

import json
import re
from dataclasses import replace

import pytest
from conftest import REPOSITORY

import train
from benchmarks import epochs, original, recipe, seeds
from common.command_line import UserError
from training.config import TEXTBOOK, TrainConfig
from training.metrics import read_metrics


def read(name: str, folder: str = "results") -> str:
    return (REPOSITORY / folder / name).read_text(encoding="utf-8")


def test_epochs_table_is_that_of_the_committed_runs():
    assert epochs.report() == read("epochs.md")
    assert epochs.report() in read("recipe.md", "docs")


def test_as_many_runs_of_each_number_of_epochs_are_committed_as_the_benchmark_makes():
    counts = {count: len(scores) for count, scores in epochs.read().items() if count != 10}
    assert counts == epochs.SEEDS


@pytest.mark.parametrize("recipe", seeds.RECIPES)
def test_twenty_whole_runs_of_each_recipe_are_committed_from_one_clean_commit(recipe):
    configs, histories = seeds.read(REPOSITORY / "results" / recipe)
    assert [config.seed for config in configs] == list(range(20))
    assert [len(history) for history in histories] == [10] * 20
    expected = TrainConfig(**TEXTBOOK if recipe == "textbook" else {})
    assert all(replace(config, seed=0) == expected for config in configs)
    commit = json.loads(read("run.json", f"results/{recipe}"))["versions"]["git_commit"]
    assert re.fullmatch("[0-9a-f]{40}", commit)  # it would end in -dirty


def test_metrics_of_many_runs_come_back_as_they_were(tmp_path, small_run):
    folders = [tmp_path / f"seed-{seed}" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        assert train.main([*small_run, "--epochs", "2", "--seed", str(seed), "--output-dir", str(folder)]) == 0
    seeds.keep(folders, tmp_path / "kept")
    configs, histories = seeds.read(tmp_path / "kept")
    assert [config.seed for config in configs] == [0, 1]
    assert histories == [read_metrics(folder / "metrics.csv") for folder in folders]


def test_runs_of_two_commits_are_not_kept_as_one(tmp_path, small_run):
    folders = [tmp_path / f"seed-{seed}" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        assert train.main([*small_run, "--epochs", "1", "--seed", str(seed), "--output-dir", str(folder)]) == 0
    run = json.loads((folders[1] / "run.json").read_text())
    run["versions"]["git_commit"] = "0" * 40
    (folders[1] / "run.json").write_text(json.dumps(run))
    with pytest.raises(UserError, match="differ in versions"):
        seeds.keep(folders, tmp_path / "kept")


def test_closest_settings_to_the_original_are_those_of_the_committed_runs():
    text = original.report(original.read_runs())
    assert text == read("original.md")
    assert text in read("reproduction.md", "docs")


def test_table_of_what_was_tried_is_that_of_the_committed_runs():
    text = recipe.report(recipe.read_runs())
    assert text == read("recipe.md")
    ablation, _, promising, choice = (part.split("\n\n", 1)[1].strip() for part in text.split("\n## ")[1:])
    shown = read("recipe.md", "docs")
    assert ablation.split("\n\n")[0] in shown
    assert promising in shown
    assert choice in shown
