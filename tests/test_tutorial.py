"""tutorial.ipynb runs from top to bottom as it is."""

import copy
import re
import shutil

import nbformat
import pytest
from conftest import REPOSITORY
from nbclient import NotebookClient
from test_changing_it import copy_program

from mnist.synthetic import SyntheticMNIST

NOTEBOOK = nbformat.read(REPOSITORY / "tutorial.ipynb", as_version=4)
CODE = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]
FLAGS = '"--epochs", "2"'


def test_notebook_is_short_has_no_outputs_and_clones_what_the_front_page_does():
    nbformat.validate(NOTEBOOK)
    assert len(NOTEBOOK.cells) <= 15
    assert all(not cell.outputs and cell.execution_count is None for cell in CODE)
    address = re.search(r'REPOSITORY = "(.*)"', CODE[0].source)[1]
    assert f"git clone {address} && " in (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.mark.exhaustive
def test_notebook_shows_curves_mistakes_a_comparison_a_number_and_the_demo(tmp_path, monkeypatch):
    program = tmp_path / "program"
    copy_program(program)
    for path in ("digits", "reading"):
        shutil.copytree(REPOSITORY / "results" / path, program / "results" / path)
    monkeypatch.setattr(SyntheticMNIST, "train_images", 2000)
    monkeypatch.setattr(SyntheticMNIST, "test_images", 300)
    SyntheticMNIST(program / "data", download=True)
    notebook = copy.deepcopy(NOTEBOOK)
    small = f'{FLAGS}, "--dataset", "synthetic", "--validation-size", "200"'
    assert FLAGS in notebook.cells[1].source
    notebook.cells[1].source = notebook.cells[1].source.replace(FLAGS, small)
    seen = "from common.command_line import shows_progress\nprint(shows_progress())"
    notebook.cells.append(nbformat.v4.new_code_cell(seen))  # as a bar that is complete leaves no output
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": program}}).execute()

    texts, pictures, pages = [], [], []
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        texts.append("".join(output.text for output in outputs if output.output_type == "stream"))
        pictures.append(sum("image/png" in output.get("data", {}) for output in outputs))
        pages += [page for output in outputs if (page := output.get("data", {}).get("text/html"))]
    assert "torch.Size([1800, 28, 28])" in texts[3]
    assert re.search(r"^\| +2 \|", texts[5], re.MULTILINE)
    assert "of 300 images" in texts[7]
    assert re.search(r"augment=(True|False) (is .*better than|has the best)", texts[9])
    assert "05221859" in texts[11]
    assert [count for count in pictures if count] == [1, 1, 2, 1, 1]
    assert texts[15] == "True\n"
    assert len(pages) == 1 and '<iframe srcdoc="&lt;!DOCTYPE html&gt;' in pages[0]
