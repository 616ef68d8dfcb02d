import re

import pytest
from conftest import REPOSITORY
from PIL import Image

import plot_results

README = (REPOSITORY / "README.md").read_text()


@pytest.mark.parametrize(("folder", "runs"), [("results", "default"), ("results/textbook", "textbook")])
def test_tables_and_curves_are_those_of_the_committed_runs(folder, runs, tmp_path):
    folders = sorted(str(path) for path in (REPOSITORY / "results" / runs).glob("seed-*"))
    assert plot_results.main([*folders, "--output-dir", str(tmp_path)]) == 0
    text = (tmp_path / "results.md").read_text()
    assert (REPOSITORY / folder / "results.md").read_text() == text
    assert text in README
    assert f"{folder}/curves.png" in README
    with Image.open(REPOSITORY / folder / "curves.png") as picture:
        assert picture.text["Description"] == text


def test_readme_names_every_flag_and_every_script():
    for script in REPOSITORY.glob("*.py"):
        assert f"`{script.name}`" in README, script.name
    flags = re.findall(r'add\("(--[a-z-]+)"', (REPOSITORY / "config.py").read_text())
    assert len(flags) > 10
    assert [flag for flag in flags if f"`{flag}" not in README] == []
