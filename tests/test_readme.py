import re
import textwrap

import pytest
from conftest import REPOSITORY
from PIL import Image

import plot_results
import predict
from own_digits.reader import REFERENCE_WEIGHTS
from training.checkpoint import load_weights

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("recipe", ["default", "textbook", "amp"])
def test_tables_and_curves_are_those_of_the_committed_runs(recipe, tmp_path):
    folder = REPOSITORY / "results" / recipe
    runs = sorted(str(path) for path in folder.glob("seed-*"))
    assert plot_results.main([*runs, "--output-dir", str(tmp_path)]) == 0
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert (folder / "results.md").read_text(encoding="utf-8") == text
    if recipe == "amp":  # of which the README gives the result alone
        assert text.splitlines()[-1] in README
    else:
        assert text in README
        assert f"(results/{recipe}/curves.png)" in README
    with Image.open(folder / "curves.png") as picture:
        assert picture.text["Description"] == text


def test_readme_names_every_flag_and_every_module():
    for module in REPOSITORY.glob("*.py"):
        assert f"`{module.name}`" in README
        for flag in re.findall(r"""add(?:_argument)?\(\s*"(--[a-z0-9-]+)""", module.read_text(encoding="utf-8")):
            assert flag in README, f"{module.name} {flag}"


@pytest.mark.parametrize("name", ["speed.md", "scaling.md"])
def test_tables_of_speed_are_those_of_the_benchmarks(name):
    assert (REPOSITORY / "results" / name).read_text(encoding="utf-8") in README


def test_answers_are_those_of_the_pictures(capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(predict, "load_best_weights", lambda model, _: load_weights(REFERENCE_WEIGHTS, model))
    files = re.search(r"python predict.py (results/.*) --preview", README)[1].split()
    assert predict.main(files) == 0
    _, table = capsys.readouterr().out.split("\n\n")
    assert textwrap.indent(table, "    ") in README
