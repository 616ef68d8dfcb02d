import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from drawing import draw
from PIL import Image

import predict
from own_digits.reader import READING_WEIGHTS

WEIGHTS_LINE = "weights: results/reading/weights.pt, as there is no checkpoints/best.pt"


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
    assert weights == WEIGHTS_LINE
    assert heading.split() == ["file", "number", "probability", "runner-up"]
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
        assert set(answer) == {"file", "weights", "number", "probability", "runner_up", "classes", "digits"}
        assert answer["classes"] == list("0123456789")
        (only,) = answer["digits"]
        assert set(only) == {"digit", "probability", "probabilities", "box"}
        assert answer["number"] == only["digit"] == str(digit) == str(np.argmax(only["probabilities"]))
        assert answer["runner_up"] == str(np.argsort(only["probabilities"])[-2])
        assert answer["probability"] == only["probability"] == max(only["probabilities"])
        assert sum(only["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_number_has_the_product_of_its_digits_probabilities_and_each_ones_box(folder, capsys):
    ink = np.hstack([draw(digit, size=200) for digit in (4, 0, 7)])
    Image.fromarray(np.uint8(255 * (1 - ink))).save("number.png")
    assert predict.main(["number.png", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["number"] == "407" == "".join(digit["digit"] for digit in answer["digits"])
    assert answer["probability"] == pytest.approx(np.prod([digit["probability"] for digit in answer["digits"]]))
    different = [a != b for a, b in zip(answer["number"], answer["runner_up"], strict=True)]
    assert sum(different) == 1
    for place, digit in enumerate(answer["digits"]):
        left, top, right, bottom = digit["box"]
        assert 200 * place < left < right < 200 * (place + 1)
        assert bottom - top == pytest.approx(128, abs=12)  # 0.6 * 200 and the pen
    assert predict.main(["number.png"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:2] == ["number.png", "407"]


@pytest.mark.parametrize("options", [[], ["--json"], ["--preview", "preview.png"]])
def test_files_that_cannot_be_read_are_told_in_a_line_each_and_the_others_answered(folder, capsys, options):
    Path("text.png").write_text("no picture")
    files = ["none.png", "seven.png", "empty.png", "text.png", "three.png"]
    assert predict.main([*files, *options]) == 2
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "predict.py: error: none.png: can't read it: No such file or directory",
        "predict.py: error: empty.png: there is no digit in the picture",
        "predict.py: error: text.png: this is not a picture, or Pillow can't read its format: save it as PNG or JPEG",
    ]
    assert out.count("seven.png") == out.count("three.png") == 1


def test_same_file_twice_is_answered_twice(folder, capsys):
    assert predict.main(["seven.png", "seven.png"]) == 0
    assert capsys.readouterr().out.count("seven.png") == 2
    assert predict.main(["empty.png", "seven.png", "seven.png"]) == 2


def test_folder_and_pattern_that_the_shell_has_not_expanded_stand_for_their_pictures(folder, capsys):
    Path("notes.txt").write_text("no picture")
    Path("empty.png").unlink()
    for argument in (".", "*.png", str(folder / "*.png")):
        assert predict.main([argument, "--json"]) == 0
        digits = [json.loads(line)["number"] for line in capsys.readouterr().out.splitlines()]
        assert digits == ["7", "3"]
    assert predict.main(["*.jpg"]) == 2
    assert "*.jpg: can't read it: No such file" in capsys.readouterr().err


def test_folder_is_read_with_its_subfolders_and_what_is_skipped_is_named(folder, capsys):
    Path("a/b").mkdir(parents=True)
    Path("seven.png").rename("a/b/seven.JFIF")
    Path("three.png").rename("a/three.ppm")
    Path("empty.png").unlink()
    for name in ("a/notes.txt", "a/photo.heic", "a/._three.ppm", "a/.DS_Store"):
        Path(name).write_text("no picture")
    assert predict.main(["a", "--json"]) == 0
    out, err = capsys.readouterr()
    answers = [json.loads(line) for line in out.splitlines()]
    assert [(answer["file"], answer["number"]) for answer in answers] == [("a/b/seven.JFIF", "7"), ("a/three.ppm", "3")]
    assert err == "predict.py: skipped, because their extensions aren't those of pictures: a/notes.txt, a/photo.heic\n"
    assert predict.main(["a/*.ppm", "--json"]) == 0  # without the hidden file


def test_folder_without_pictures_is_told_and_the_others_are_read(folder, capsys):
    Path("nothing").mkdir()
    assert predict.main(["nothing", "seven.png"]) == 2
    out, err = capsys.readouterr()
    assert err == "predict.py: error: nothing: there is no picture in this folder\n"
    assert "seven.png" in out


def test_own_checkpoint_is_used_with_a_note_on_the_other_weights(folder, reference, capsys):
    Path("checkpoints").mkdir()
    torch.save(reference.state_dict(), "checkpoints/best.pt")
    assert predict.main(["seven.png", "--json"]) == 0
    note = f"note: checkpoints/best.pt is used; for photos of digits, --checkpoint {READING_WEIGHTS} is better"
    assert capsys.readouterr().err == f"predict.py: {note}\n"
    assert predict.main(["seven.png", "--json", "--checkpoint", "checkpoints/best.pt"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("error")
def test_file_names_of_any_kind_are_printed_and_drawn(folder, capsys):
    names = ["two\nlines.png", "$x$ {.png", "a\udcff.png", "数字.png", "n" * 100 + ".png"]
    for name in names:
        Path(name).hardlink_to("seven.png")
    assert predict.main([*names, "--preview", "preview.png"]) == 0
    _, table = capsys.readouterr().out.split("\n\n")
    assert table.count("\n") == 1 + len(names) + 1
    assert table.endswith("\nWritten: preview.png\n")
    assert table.count(" 7 ") == len(names)
    predict.main([*names, "--json"])
    assert [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()] == names


@pytest.mark.exhaustive
def test_names_that_the_output_cannot_encode_are_written_otherwise(folder):
    Path("数字.png").hardlink_to("seven.png")
    command = [sys.executable, str(REPOSITORY / "predict.py"), "数字.png"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert "\\u6570\\u5b57.png" in process.stdout


def test_checkpoint_that_is_named_answers(folder, capsys):
    assert predict.main(["seven.png", "--checkpoint", "none.pt"]) == 2
    assert "there is no none.pt: train first" in capsys.readouterr().err


def test_preview_of_large_pictures_holds_small_ones(folder, monkeypatch):
    drawn = []
    monkeypatch.setattr("own_digits.preview.draw_answers", lambda path, answers, *_: drawn.extend(answers))
    Image.new("RGB", (1500, 900), "white").save("large.png")
    Image.open("seven.png").resize((1500, 1500)).save("large.png")
    assert predict.main(["large.png", "--preview", "preview.png"]) == 0
    assert max(drawn[0][1].picture.size) == 400


def test_preview_is_drawn_again_but_never_over_a_picture_of_the_users(folder, capsys):
    for _ in range(2):
        assert predict.main(["seven.png", "--preview", "preview.png"]) == 0
    before = Path("seven.png").read_bytes()
    capsys.readouterr()
    assert predict.main(["--preview", "seven.png", "three.png"]) == 2  # as of `--preview *.png`
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "would overwrite seven.png" in err
    assert Path("seven.png").read_bytes() == before


@pytest.mark.parametrize("script", ["predict", pytest.param("demo", marks=pytest.mark.exhaustive)])
def test_script_starts_without_torchvision_the_compiler_and_matplotlib(script):
    slow = ("torchvision", "torch._dynamo", "matplotlib")  # each costs the start up to a second
    code = f"import sys, {script}; print([name for name in {slow} if name in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert process.stdout == "[]\n"
