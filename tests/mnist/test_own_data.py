"""The code of docs/own-data.md, run on pictures of letters; and what it calls."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from PIL import Image

from common.command_line import UserError
from mnist.dataset import load_data
from mnist.own_data import save_dataset
from mnist.synthetic import FONTS, draw_glyph
from own_digits.digit_image import BOX, CENTRE, character_image
from training.config import TrainConfig

PAGE = (REPOSITORY / "docs" / "own-data.md").read_text(encoding="utf-8")
SCRIPT, ARRAYS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
CONFIG = TrainConfig(dataset="letters", validation_size=10)


@pytest.fixture
def make_dataset(tmp_path, monkeypatch):
    """Run the page's script, as `python make_dataset.py FOLDER letters`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "make_dataset.py").write_text(SCRIPT, encoding="utf-8")

    def run(folder):
        monkeypatch.setattr(sys, "argv", ["make_dataset.py", str(folder), "letters"])
        runpy.run_path(str(tmp_path / "make_dataset.py"), run_name="__main__")

    return run


def draw_pictures(folder, classes, count=24):
    """Draw pictures of letters by class: many sizes, formats and margins, light on dark, dark on light, and pencil."""
    for letter in classes:
        (folder / letter).mkdir(parents=True)
        for number in range(count):
            glyph = Image.fromarray(draw_glyph(FONTS[number % 12], letter))
            glyph = glyph.resize((60 + 5 * number, 60 + 5 * number))
            picture = Image.new("L", (100 + 6 * number, 90 + 7 * number))
            picture.paste(glyph, (10, 20))
            if number % 3 == 1:
                picture = picture.point([255 - value for value in range(256)])
            if number % 3 == 2:  # pencil on grey paper
                picture = picture.point([190 - value // 5 for value in range(256)])
            picture.convert("RGB").save(folder / letter / f"{number}.{['png', 'jpg', 'bmp', 'gif'][number % 4]}")


def test_page_has_at_most_20_lines_of_code_in_its_script():
    assert len([line for line in SCRIPT.splitlines() if line.strip()]) <= 20
    assert max(map(len, SCRIPT.splitlines())) <= 120


def test_folder_of_pictures_by_class_becomes_a_shuffled_data_set_of_light_ink_on_0(make_dataset, tmp_path, capsys):
    draw_pictures(tmp_path / "pictures", "ABQ")
    (tmp_path / "pictures" / "A" / "notes.txt").write_text("no picture")
    (tmp_path / "pictures" / "B" / "._1.png").write_text("of a Mac")
    Image.new("L", (80, 80), 200).save(tmp_path / "pictures" / "A" / "blank.png")
    cut = (tmp_path / "pictures" / "A" / "0.png").read_bytes()[:30]
    (tmp_path / "pictures" / "A" / "cut.png").write_bytes(cut)
    make_dataset(tmp_path / "pictures")
    skipped = tmp_path / "pictures" / "A"
    no_picture = "this is not a picture, or Pillow can't read its format: save it as PNG or JPEG"
    assert capsys.readouterr().out.splitlines() == [
        f"skipped: {skipped / 'blank.png'}: there is no ink in the picture, or its strokes are too wide",
        f"skipped: {skipped / 'cut.png'}: {no_picture}",
        f"skipped: {skipped / 'notes.txt'}: {no_picture}",
        "72 pictures of 3 classes: A, B, Q",
    ]
    data = load_data(CONFIG, tmp_path / "data")
    assert data.description["classes"] == ["A", "B", "Q"]
    assert data.description["images"] == {"train": 50, "validation": 10, "test": 12}
    assert data.warning == ""
    counts = torch.zeros(3, dtype=torch.int64)
    for split in (data.train, data.validation, data.test):
        images, labels = split.tensors
        assert (labels.sort().values != labels).any()  # shuffled: no split is in the order of the classes
        counts += labels.bincount(minlength=3)
        for image, label in zip(images.numpy(), labels.tolist(), strict=True):
            assert image[[0, -1]].max() == image[:, [0, -1]].max() == 0  # the background, whatever the picture's was
            left, top, right, bottom = Image.fromarray(np.uint8(image > 30)).getbbox()
            assert max(right - left, bottom - top) == pytest.approx(BOX, abs=1)
            likeness = [
                max(np.corrcoef(image.ravel(), draw_glyph(font, letter).ravel())[0, 1] for font in FONTS)
                for letter in "ABQ"
            ]
            assert np.argmax(likeness) == label
    assert counts.tolist() == [24, 24, 24]
    assert CENTRE == 14.5


def test_arrays_of_another_size_and_the_other_way_round_become_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = [0, 1, 2] * 12
    arrays = [np.kron(255 - draw_glyph(FONTS[number // 3], "ABC"[number % 3]), np.ones((3, 3), np.uint8))
              for number in range(36)]  # fmt: skip
    (expression,) = re.findall(r"`images = (np.stack\(\[character_image.*?)`", PAGE)
    names = {"np": np, "character_image": character_image, "Image": Image, "Path": Path, "save_dataset": save_dataset}
    images = eval(expression, {**names, "arrays": arrays})
    exec(ARRAYS, {**names, "images": images, "labels": labels})
    data = load_data(CONFIG, tmp_path / "data")
    assert data.description["classes"] == ["A", "B", "C"]
    saved = {(image.numpy().tobytes(), int(label)) for split in data[:3] for image, label in split}
    assert saved == {(image.tobytes(), label) for image, label in zip(images, labels, strict=True)}


IMAGES, LABELS = np.zeros((12, 28, 28), np.uint8), [0, 1] * 6
WRONG = {
    "floats": ({"images": IMAGES / 255}, r"images must be \(N, 28, 28\) uint8 .*, not \(12, 28, 28\) float64"),
    "another size": ({"images": np.zeros((12, 32, 32), np.uint8)}, r"not \(12, 32, 32\) uint8"),
    "other labels": ({"labels": [0, 1]}, r"not \(12, 28, 28\) uint8 and \(2,\)"),
    "labels from 1": ({"labels": [1, 2] * 6}, "2 classes .256 at most., but labels from 1 to 2"),
    "negative labels": ({"labels": [-1, 1] * 6}, "but labels from -1 to 1"),
    "MNIST's name": ({"name": "mnist"}, "mnist is already the name of another data set"),
    "auto": ({"name": "auto"}, "auto is already the name of another data set"),
    "MNIST's folder": ({"name": "MNIST"}, "MNIST is already the name of another data set"),
    "a folder of another": ({"name": "there"}, "there is already the name of another data set"),
    "a path": ({"name": "a/b"}, "name may have only letters, digits, - and _; .*: 'a/b'"),
    "no name": ({"name": ""}, "name may have only letters, digits"),
    "fractions": ({"labels": [0, 0.5] * 6}, "and labels N whole numbers, not .12, 28, 28. uint8 and .12,. float64"),
    "one-hot labels": ({"labels": [[0, 1]] * 12}, r"whole numbers, not .* and \(12, 2\)"),
    "names for labels": ({"labels": ["a", "b"] * 6}, "labels N whole numbers"),
    "a class twice": ({"classes": ["a", "a"]}, "class names must be distinct, one line each"),
    "two lines": ({"classes": ["a\nb", "c"]}, "class names must be distinct, one line each"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_data_set_that_could_not_be_used_is_refused_before_anything_is_written(fault, tmp_path):
    (tmp_path / "there" / "raw").mkdir(parents=True)
    change, message = WRONG[fault]
    arguments = {"name": "own", "images": IMAGES, "labels": LABELS, "classes": ["a", "b"], **change}
    with pytest.raises(UserError, match=message):
        save_dataset(tmp_path, **arguments)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_data_set_is_made_anew_under_its_name(tmp_path):
    save_dataset(tmp_path, "letters", IMAGES, LABELS, ["a", "b"])
    save_dataset(tmp_path, "letters", IMAGES + np.uint8(9), LABELS, ["c", "d"])
    data = load_data(TrainConfig(dataset="letters", validation_size=1), tmp_path)
    assert data.description["classes"] == ["c", "d"]
    assert data.test.tensors[0].unique().tolist() == [9]


def test_more_labels_than_names_are_told(tmp_path):
    save_dataset(tmp_path, "letters", IMAGES, LABELS, ["a", "b"])
    (tmp_path / "letters" / "raw" / "classes.txt").write_text("a\n")
    with pytest.raises(UserError, match="has labels up to 1, counted from 0, but 1 class names"):
        load_data(TrainConfig(dataset="letters", validation_size=1), tmp_path)


def test_data_set_that_lacks_a_file_is_not_looked_for_elsewhere(tmp_path, capsys):
    save_dataset(tmp_path, "letters", IMAGES, LABELS, ["a", "b"])
    (tmp_path / "letters" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="one of train-.* is missing from .*letters/raw: make the data set again"):
        load_data(CONFIG, tmp_path)
    assert capsys.readouterr().err == ""


def test_data_set_that_is_not_in_the_folder_is_told_with_what_to_do(tmp_path):
    with pytest.raises(
        UserError, match=f"there is no data set letters in {tmp_path}: .*, or make it as docs/own-data.md"
    ):
        load_data(CONFIG, tmp_path)
