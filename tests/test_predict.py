import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from drawing import draw
from PIL import Image

import predict

BLUE = 100  # the grey level of the best bar
REFERENCE_LINE = "weights: of a reference run (results/default), since there is no checkpoints/best.pt"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, with pictures of a 7 and a 3 and of nothing."""
    monkeypatch.chdir(tmp_path)
    for name, ink in [("seven", draw(7)), ("three", draw(3)), ("empty", np.zeros((50, 50)))]:
        Image.fromarray(np.uint8(255 * (1 - ink))).save(f"{name}.png")
    return tmp_path


def test_answers_are_a_table(folder, capsys):
    assert predict.main(["seven.png", "three.png"]) == 0
    weights, _, heading, *rows = capsys.readouterr().out.splitlines()
    assert weights == REFERENCE_LINE
    assert heading.split() == ["file", "digit", "probability", "runner-up"]
    assert [row.split()[:2] for row in rows] == [["seven.png", "7"], ["three.png", "3"]]
    assert all(len(row) == len(heading) for row in rows)
    for row in rows:
        _, digit, probability, runner_up, next_best = row.split()
        assert float(probability.strip("%")) > 90 > float(next_best.strip("%"))
        assert digit != runner_up


def test_json_is_an_object_a_line_with_all_probabilities(folder, capsys):
    assert predict.main(["seven.png", "three.png", "--json"]) == 0
    for digit, line in zip((7, 3), capsys.readouterr().out.splitlines(), strict=True):
        answer = json.loads(line)
        assert set(answer) == {"file", "weights", "digit", "probability", "runner_up", "probabilities"}
        assert answer["digit"] == digit == np.argmax(answer["probabilities"])
        assert answer["runner_up"] == np.argsort(answer["probabilities"])[-2]
        assert answer["probability"] == max(answer["probabilities"])
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("options", [[], ["--json"], ["--preview", "preview.png"]])
def test_files_that_cannot_be_read_are_told_in_a_line_each_and_the_others_answered(folder, capsys, options):
    Path("text.png").write_text("no picture")
    files = ["none.png", "seven.png", "empty.png", "text.png", "three.png"]
    assert predict.main([*files, *options]) == 2
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "predict.py: error: none.png: can't read it: No such file or directory",
        "predict.py: error: empty.png: there is no digit on the picture",
        "predict.py: error: text.png: this is no picture (PNG, JPEG, GIF, BMP, TIFF, WEBP can be read)",
    ]
    assert out.count("seven.png") == out.count("three.png") == 1


def test_same_file_twice_is_answered_twice(folder, capsys):
    assert predict.main(["seven.png", "seven.png"]) == 0
    assert capsys.readouterr().out.count("seven.png") == 2
    assert predict.main(["empty.png", "seven.png", "seven.png"]) == 2


def test_own_checkpoint_answers_when_there_is_one(folder, small_run, capsys):
    import train

    assert train.main([*small_run, "--epochs", "1", "--output-dir", "checkpoints"]) == 0
    capsys.readouterr()
    predict.main(["seven.png"])
    assert capsys.readouterr().out.startswith("weights: checkpoints/best.pt (epoch 1, synthetic)\n")
    Path("checkpoints/best.pt").rename("other.pt")
    predict.main(["seven.png", "--checkpoint", "other.pt"])
    assert capsys.readouterr().out.startswith("weights: other.pt (epoch 1, synthetic)\n")
    Path("checkpoints/best.pt").write_text("damaged")
    assert predict.main(["seven.png"]) == 2
    assert "checkpoints/best.pt is not a checkpoint" in capsys.readouterr().err


@pytest.mark.filterwarnings("error")
def test_file_names_of_any_kind_are_printed_and_drawn(folder, capsys):
    names = ["two\nlines.png", "$x$ {.png", "a\udcff.png", "数字.png", "n" * 100 + ".png"]
    for name in names:
        Path(name).hardlink_to("seven.png")
    assert predict.main([*names, "--preview", "preview.png"]) == 0
    _, table = capsys.readouterr().out.split("\n\n")
    assert table.count("\n") == 1 + len(names)
    assert table.count(" 7 ") == len(names)
    predict.main([*names, "--json"])
    assert [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()] == names


def test_names_that_the_output_cannot_encode_are_written_otherwise(folder):
    Path("数字.png").hardlink_to("seven.png")
    command = [sys.executable, str(REPOSITORY / "predict.py"), "数字.png"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert "\\u6570\\u5b57.png" in process.stdout


def test_preview_shows_each_picture_its_image_and_its_probabilities(folder, capsys):
    for names in (["seven.png"], ["seven.png", "three.png"]):  # the second one replaces the first
        assert predict.main([*names, "--preview", "preview.png"]) == 0
        with Image.open("preview.png") as image:
            pixels = np.asarray(image.convert("L"))
        rows = np.array_split(pixels[90:], len(names))
        for row, digit in zip(rows, (7, 3), strict=False):
            picture, image, bars = np.split(row, [row.shape[1] // 4, row.shape[1] // 2], axis=1)
            assert picture.min() < 50
            rows_of_image, columns_of_image = (np.nonzero((image == 0).mean(axis=axis) > 0.3)[0] for axis in (1, 0))
            field = image[rows_of_image.min() : rows_of_image.max(), columns_of_image.min() : columns_of_image.max()]
            assert 0.05 < (field > 200).mean() < 0.4  # the digit, on black
            columns_of_bars = np.nonzero((abs(bars.astype(int) - BLUE) < 3).sum(axis=0) > 20)[0]
            assert columns_of_bars.mean() / bars.shape[1] == pytest.approx(0.17 + 0.077 * digit, abs=0.04)


def test_preview_of_large_pictures_holds_small_ones(folder, monkeypatch):
    from own_digits import preview

    drawn = []
    monkeypatch.setattr(preview, "draw_answers", lambda path, answers, title: drawn.extend(answers))
    Image.new("RGB", (1500, 900), "white").save("large.png")
    Image.open("seven.png").resize((1500, 1500)).save("large.png")
    assert predict.main(["large.png", "--preview", "preview.png"]) == 0
    assert max(drawn[0][1].picture.size) == predict.THUMBNAIL


def test_preview_never_replaces_a_picture_of_the_users(folder, capsys):
    before = Path("seven.png").read_bytes()
    assert predict.main(["--preview", "seven.png", "three.png"]) == 2  # as of `--preview *.png`
    assert "would replace seven.png" in capsys.readouterr().err
    assert Path("seven.png").read_bytes() == before
    Path("notes.png").write_text("no picture")
    assert predict.main(["three.png", "--preview", "notes.png"]) == 2
    assert Path("notes.png").read_text() == "no picture"
    os.mkfifo("pipe.png")
    assert predict.main(["three.png", "--preview", "pipe.png"]) == 2
    assert predict.main(["three.png", "--preview", "n" * 300 + ".png"]) == 2
    assert "File name too long" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["preview.jpg", "preview"])
def test_preview_is_a_png(folder, capsys, name):
    assert predict.main(["seven.png", "--preview", name]) == 2
    assert "wants the name of a PNG file" in capsys.readouterr().err
    assert not Path(name).exists()
