"""The tables in results/ are those that the committed runs give, and docs/ shows them."""

import json

import pytest
from conftest import REPOSITORY

import train
from benchmarks import epochs, recipe, seeds
from common.command_line import UserError
from training.metrics import read_metrics


def read(name: str, folder: str = "results") -> str:
    return (REPOSITORY / folder / name).read_text(encoding="utf-8")


def test_epochs_table_is_that_of_the_committed_runs():
    assert epochs.report() == read("epochs.md")
    assert epochs.report() in read("recipe.md", "docs")


def test_each_run_of_the_epochs_table_is_of_the_default_recipe():
    for count in epochs.SEEDS:
        for seed, folder in enumerate(epochs.folders(count)):
            assert epochs.is_done(folder, count, seed)


def test_run_of_another_recipe_or_unfinished_does_not_count_for_the_epochs_table(tmp_path):
    default = REPOSITORY / "results" / "default" / "seed-0"
    assert not epochs.is_done(default, 5, 0)
    assert not epochs.is_done(default, 10, 1)
    assert not epochs.is_done(REPOSITORY / "results" / "textbook" / "seed-0", 10, 0)
    assert not epochs.is_done(tmp_path, 10, 0)
    for name in ("metrics.csv", "run.json"):
        (tmp_path / name).write_bytes((default / name).read_bytes())
    assert epochs.is_done(tmp_path, 10, 0)
    lines = (tmp_path / "metrics.csv").read_text().splitlines(keepends=True)
    (tmp_path / "metrics.csv").write_text("".join(lines[:-1]))
    assert not epochs.is_done(tmp_path, 10, 0)


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


def test_table_of_what_was_tried_is_that_of_the_committed_runs():
    text = recipe.report(recipe.read_runs())
    assert text == read("recipe.md")
    ablation = text.split("\n## ")[1].split("\n\n", 1)[1].strip()
    assert ablation in read("recipe.md", "docs")
