"""A network of twelve letters instead of ten digits, in every command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL
from PIL import Image

import demo
import evaluate
import predict
import train
from mnist.own_data import save_dataset
from mnist.synthetic import FONTS, draw_glyph
from model import DigitCNN
from training.charts import draw_confusion_matrix, draw_mistakes
from training.run_files import load_checkpoint

LETTERS = list("ABCDEFGHKQTZ")


class LetterCNN(DigitCNN):
    def __init__(self):
        super().__init__()
        self.fc2 = torch.nn.Linear(50, 12)


@pytest.fixture(scope="module")
def letters_dir(tmp_path_factory) -> Path:
    """A folder with a data set of 12 letters, each in twelve fonts, twice."""
    folder = tmp_path_factory.mktemp("letters")
    images = np.stack([draw_glyph(font, letter) for font in FONTS for letter in LETTERS] * 2)
    save_dataset(folder, "letters", images, list(range(12)) * len(FONTS) * 2, LETTERS)
    return folder


@pytest.fixture
def network(monkeypatch):
    for script in (train, evaluate, predict, demo):
        monkeypatch.setattr(script, "DigitCNN", LetterCNN)


@pytest.fixture(scope="module")
def run(letters_dir, tmp_path_factory) -> Path:
    """The folder of a run that reads letters."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "DigitCNN", LetterCNN)
        flags = [
            "--validation-size",
            "50",
            "--epochs",
            "20",
            "--data-dir",
            str(letters_dir),
            "--output-dir",
            str(folder),
        ]
        assert train.main([*SMALL, "--dataset", "letters", *flags]) == 0
    return folder


def test_checkpoint_carries_the_names_of_the_classes(run):
    for name in ("best.pt", "last.pt"):
        assert load_checkpoint(run / name)["dataset"]["classes"] == LETTERS


def test_report_and_json_have_a_row_for_each_class_with_its_name(run, letters_dir, network, capsys):
    flags = [str(run / "best.pt"), "--data-dir", str(letters_dir), "--device", "cpu"]
    assert evaluate.main(flags) == 0
    _, summary, _, heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["true", "accuracy", "answered", *LETTERS]
    assert [row.split()[0] for row in rows] == LETTERS
    assert len({len(row) for row in [heading, *rows]}) == 1
    assert evaluate.main([*flags, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["classes"] == LETTERS
    assert answer["accuracy"] > 0.9
    assert np.shape(answer["confusion_matrix"]) == (12, 12)


def test_pictures_are_drawn_of_as_many_classes_as_there_are(run, letters_dir, network, tmp_path, capsys):
    flags = [str(run / "best.pt"), "--data-dir", str(letters_dir), "--device", "cpu", "--pictures", str(tmp_path)]
    assert evaluate.main(flags) == 0
    files = [str(tmp_path / f"{name}.png") for name in ("confusion_matrix", "mistakes", "filters")]
    assert capsys.readouterr().out.splitlines()[-1] == f"Written: {', '.join(files)}"
    with Image.open(files[0]) as picture:  # a blue cell for each class with test images, along the diagonal
        blue = np.argwhere(np.abs(np.asarray(picture.convert("RGB")).astype(int) - (207, 226, 239)).max(axis=2) < 4)
    places = (blue - blue.min(axis=0)) / (blue.max(axis=0) - blue.min(axis=0))
    assert np.abs(places[:, 0] - places[:, 1]).max() < 1 / len(LETTERS) + 0.01


def test_letters_are_read_and_named(run, network, tmp_path, capsys):
    for letter in "QZ":
        Image.fromarray(255 - draw_glyph("DejaVuSans", letter)).resize((200, 200)).save(tmp_path / f"{letter}.png")
    files = [str(tmp_path / "Q.png"), str(tmp_path / "Z.png")]
    flags = [*files, "--checkpoint", str(run / "best.pt"), "--preview", str(tmp_path / "preview.png")]
    assert predict.main(flags) == 0
    *_, first, second, written = capsys.readouterr().out.splitlines()
    assert [first.split()[1], second.split()[1]] == ["Q", "Z"]
    assert written == f"Written: {tmp_path / 'preview.png'}"
    assert predict.main([*flags, "--json"]) == 0
    out, err = capsys.readouterr()
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["number"] for answer in answers] == ["Q", "Z"]
    assert answers[0]["classes"] == LETTERS
    assert len(answers[0]["digits"][0]["probabilities"]) == 12
    assert err == f"Written: {tmp_path / 'preview.png'}\n"


def test_weights_alone_have_numbers_for_names(run, letters_dir, network, tmp_path, capsys):
    weights = tmp_path / "weights.pt"
    flags = [str(run / "best.pt"), "--data-dir", str(letters_dir), "--device", "cpu", "--weights", str(weights)]
    assert evaluate.main(flags) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Written: {weights}"
    Image.fromarray(255 - draw_glyph("DejaVuSans", "Q")).resize((200, 200)).save(tmp_path / "Q.png")
    assert predict.main([str(tmp_path / "Q.png"), "--checkpoint", str(weights), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["number"] == "9"
    assert answer["weights"] == f"{weights} (weights only, with classes assumed to be 0 to 11)"


def test_page_of_the_demo_names_the_classes(run, network, tmp_path):
    page = tmp_path / "page.html"
    assert demo.main(["--no-browser", "--save", str(page), "--checkpoint", str(run / "best.pt")]) == 0
    assert f'"classes": {json.dumps(LETTERS)}' in page.read_text(encoding="utf-8")


def test_network_and_data_must_have_as_many_classes(run, letters_dir, data_dir, tmp_path, monkeypatch, capsys):
    flags = [*SMALL, "--output-dir", str(tmp_path / "run"), "--epochs", "1"]
    own = ["--data-dir", str(letters_dir), "--dataset", "letters"]
    assert train.main([*flags, *own]) == 2
    message = "error: the network has 10 outputs, but letters has 12 classes: change the last layer in model.py, or"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "last.pt").exists()
    monkeypatch.setattr(train, "DigitCNN", LetterCNN)
    monkeypatch.setattr(evaluate, "DigitCNN", LetterCNN)
    assert train.main([*flags, "--data-dir", str(data_dir)]) == 2
    assert "error: the network has 12 outputs, but synthetic has 10 classes: " in capsys.readouterr().err
    config = {"dataset": "synthetic", "validation_size": 200}
    torch.save({"averaged_model": LetterCNN().state_dict(), "config": config}, tmp_path / "own.pt")
    assert evaluate.main([str(tmp_path / "own.pt"), "--data-dir", str(data_dir)]) == 2
    assert "error: the network has 12 outputs, but synthetic has 10 classes: " in capsys.readouterr().err


def test_data_set_that_was_made_anew_with_other_classes_is_not_mistaken_for_the_old_one(
    run, letters_dir, network, tmp_path, capsys
):
    images = np.stack([draw_glyph(font, letter) for font in FONTS for letter in LETTERS])
    save_dataset(tmp_path, "letters", images, list(range(12)) * len(FONTS), [letter.lower() for letter in LETTERS])
    assert evaluate.main([str(run / "best.pt"), "--data-dir", str(tmp_path)]) == 2
    assert "the network has learned the classes A, B, C, " in capsys.readouterr().err
    flags = ["--data-dir", str(tmp_path), "--output-dir", str(run), "--resume"]
    assert train.main(flags) == 2
    assert "the network has learned the classes A, B, C, " in capsys.readouterr().err


def test_evaluation_on_other_files_than_those_of_the_training_is_told(run, letters_dir, network, tmp_path, capsys):
    images = np.stack([draw_glyph(font, letter) for font in FONTS for letter in LETTERS])
    save_dataset(tmp_path, "letters", images, list(range(12)) * len(FONTS), LETTERS)
    flags = [str(run / "best.pt"), "--device", "cpu", "--split", "train", "--data-dir"]
    assert evaluate.main([*flags, str(tmp_path)]) == 0
    assert capsys.readouterr().err == "warning: the checkpoint was trained on different files of letters\n"
    assert evaluate.main([*flags, str(letters_dir)]) == 0
    assert capsys.readouterr().err == ""


def test_class_that_the_training_images_lack_is_told_before_and_after_the_run(network, tmp_path, capsys):
    order = sorted(range(12 * 12), key=lambda number: number % 12)  # all A, then all B, ...
    images = np.stack([draw_glyph(font, letter) for font in FONTS for letter in LETTERS])[order]
    labels = [number % 12 for number in order]
    save_dataset(tmp_path, "letters", images, labels, LETTERS)
    raw = tmp_path / "letters" / "raw"
    for kind, values in [("images-idx3", images), ("labels-idx1", labels)]:  # in order, as save_dataset never leaves it
        path = raw / f"train-{kind}-ubyte"
        header = path.read_bytes()[: 16 if kind == "images-idx3" else 8]
        header = header[:4] + len(labels).to_bytes(4, "big") + header[8:]
        path.write_bytes(header + np.asarray(values, np.uint8).tobytes())
    flags = ["--data-dir", str(tmp_path), "--output-dir", str(tmp_path / "run"), "--epochs", "1"]
    assert train.main([*SMALL, "--dataset", "letters", "--validation-size", "30", *flags]) == 0
    warning = "warning: none of the 114 training images is of class T, Z\n"  # of Q, six images are left
    assert capsys.readouterr().err == 2 * warning


def test_charts_of_classes_with_long_names_show_them_whole(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("training.charts.save_figure", lambda figure, *_: figures.append(figure))
    classes = ["T-shirt/top", "Ankle boot", "$x_1$"]
    probabilities = np.array([[0.1, 0.9, 0], [0, 1, 0], [0, 0.2, 0.8]])
    draw_confusion_matrix(tmp_path / "a.png", np.array([[0, 1, 0], [0, 1, 0], [0, 0, 1]]), classes, "title")
    draw_mistakes(
        tmp_path / "b.png", np.zeros((3, 28, 28), np.uint8), np.array([0, 1, 2]), probabilities, classes, "title"
    )
    axes = figures[0].axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == classes
        assert not any(label.get_parse_math() for label in labels)
    assert figures[1].axes[0].get_title() == "T-shirt/top →\nAnkle boot\n90%"
