"""The tables and curves in results/ are those of the committed runs, and docs/ shows them."""

import json
import re

import pytest
from conftest import REPOSITORY
from PIL import Image

import sweep
from benchmarks import original
from plot_results import results_markdown, runs_in
from training.comparison import Run, by_setting, read_run
from training.config import TEXTBOOK, TrainConfig, parse_arguments

RESULTS = REPOSITORY / "results"
SEEDS = {"default": [20], "textbook": [10], "ablation": [3] * 8, "all-images": [10, 20],
         "epochs": [5] * 4 + [20, 2, 2], "original": [5] + [1] * 11}  # fmt: skip


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def groups_of(name: str) -> dict[str, list[Run]]:
    """Return the runs of the table results/NAME/results.md, by their settings."""
    others = ["default"] if name in ("all-images", "epochs") else []  # the runs of the front page stand in these, too
    return by_setting(read_run(run) for folder in [name, *others] for run in runs_in(RESULTS / folder))


@pytest.mark.parametrize("name", SEEDS)
def test_runs_of_each_table_are_committed_whole_and_from_one_clean_commit(name):
    groups = groups_of(name)
    assert sorted(map(len, groups.values())) == sorted(SEEDS[name])
    for runs in groups.values():
        assert [run.config.seed for run in runs] == list(range(len(runs)))
        assert all(len(run.history) == run.config.epochs for run in runs)
    folders = [run.folder for runs in groups.values() for run in runs]
    commits = {json.loads((folder / "run.json").read_text())["versions"]["git_commit"] for folder in folders}
    assert len(commits) == 1
    assert re.fullmatch("[0-9a-f]{40}", commits.pop())  # it would end in -dirty


@pytest.mark.parametrize("name", [name for name in SEEDS if name != "original"])
def test_tables_and_curves_are_those_of_the_committed_runs(name):
    text = results_markdown(groups_of(name))
    assert read(f"results/{name}/results.md") == text
    with Image.open(RESULTS / name / "curves.png") as picture:
        assert picture.text["Description"] == text


@pytest.mark.parametrize(
    ("name", "page"),
    [("textbook", "reproduction"), *((name, "recipe") for name in ("ablation", "all-images", "epochs"))],
)
def test_pages_show_the_tables(name, page):
    table = re.search(r"(\|.*\n)+", read(f"results/{name}/results.md"))[0]
    assert table in read(f"docs/{page}.md")


def test_front_page_shows_the_means_of_the_default_runs():
    *table, _, best = read("results/default/results.md").splitlines()[2:]
    rows = [[cell.split(" ± ")[0].strip() for cell in line.strip("|").split("|")] for line in table]
    shown = ["| " + " | ".join(row[column] for column in (0, 1, 2, 5, 6)) + " |" for row in rows]
    shown[1] = "|---:|---:|---:|---:|---:|"
    assert "\n".join(shown) + f"\n\n{best}\n" in read("README.md")


@pytest.mark.parametrize(("name", "passed_on"), [
    ("ablation", ["--validation-size=10000"]),
    ("original", ["--textbook", "--validation-size=0"]),
])  # fmt: skip
def test_runs_are_those_of_the_file_of_settings(name, passed_on):
    lines = [line.split() for line in read(f"benchmarks/{name}.txt").splitlines() if not line.startswith("#")]
    flags = [flags for words in lines for flags in sweep.combinations(words, passed_on)]
    wanted = [TrainConfig(**parse_arguments(setting)[1]) for setting in flags]
    found = [runs[0].config for runs in groups_of(name).values()]
    assert len(wanted) == len(found) and all(config in found for config in wanted)
    if name == "ablation":  # from one to the other
        assert wanted[0] == TrainConfig(**TEXTBOOK, validation_size=10_000)
        assert wanted[-1] == TrainConfig(validation_size=10_000)


def test_closest_settings_to_the_original_are_those_of_the_committed_runs():
    text = original.report(groups_of("original"))
    assert text == read("results/original/original.md")
    assert text.split("\n\n")[-1] in read("docs/reproduction.md")


def test_comparison_counts_the_cells_that_round_to_the_original(monkeypatch):
    exact = original.ORIGINAL + [0.4, 0.004, -0.4, -0.004]
    monkeypatch.setattr(original, "mean_of", lambda runs: runs[0])
    off = exact.copy()
    off[0] = [86.4, 0.53, 95, 0.17]  # one unit and two units too much
    text = original.report({"once": [exact], "near": [exact] * 2, "far": [off] * 2})
    assert text.splitlines()[2:5] == [
        "| near | 2 | 40 of 40 | 40 of 40 |", "| far | 2 | 38 of 40 | 39 of 40 |", "| once | 1 | 40 of 40 | 40 of 40 |"
    ]  # fmt: skip
    assert "| 1 | 85% = 85% | 0.53 = 0.53 | 95% = 95% | 0.15 = 0.15 |" in text
    assert "| 1 | 85% ≠ 86% | 0.53 = 0.53 | 95% = 95% | 0.15 ≠ 0.17 |" in original.report({"far": [off]})
