import math
import re
from itertools import chain

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from drawing import draw
from PIL import Image
from scipy import ndimage

from benchmarks import gpu, pictures, reading_weights, speed, textbook
from benchmarks.pictures import SHAPES, enlarge
from model import DigitCNN
from own_digits.digit_image import BOX, CENTRE
from own_digits.ink import Candidate


def test_textbook_network_computes_what_ours_does_from_normalised_images():
    ours, plain, images = DigitCNN(), textbook.Net(), torch.rand(4, 1, 28, 28)
    plain.load_state_dict(ours.state_dict())
    torch.testing.assert_close(plain((images - 0.1307) / 0.3081), ours(images))


def test_counted_flops_are_those_of_the_layers():
    forward = 2 * (26**2 * 10 * 25 + 11**2 * 20 * 250 + 500 * 50 + 50 * 10)
    to_weights_and_inputs = 2 * forward - 2 * 26**2 * 10 * 25  # the images need no gradient
    assert speed.flops_per_image() == pytest.approx(forward + to_weights_and_inputs)


def test_line_of_the_textbook_loop_is_understood_by_the_comparison():
    source = (REPOSITORY / "benchmarks" / "textbook.py").read_text(encoding="utf-8")
    line = "".join(re.findall(r'f"(.*?)"', source[source.index("print(") :])[:2])
    names = {"epoch": 1, "validation_accuracy": 0.9812, "accuracy": 0.99, "train_seconds": 7.5, "seconds": 8.25}
    assert speed.TEXTBOOK_LINE.findall(line.format(**names)) == [("0.9812", "0.9900", "7.50", "8.25")]


def test_matrix_multiply_rate_is_a_rate():
    assert math.isfinite(rate := speed.matmul_flops_per_second(64)) and rate > 1e6


@pytest.mark.exhaustive
def test_profile_of_a_training_step_lists_the_convolutions():
    assert "convolution" in speed.profile_epoch()


def test_large_batches_are_compared_at_each_learning_rate(monkeypatch):
    def run(config, data):
        return gpu.Run(seconds=2.0 + config.seed, validation_accuracy=config.learning_rate, test_accuracy=0.5)

    monkeypatch.setattr(gpu, "run", run)
    rows = [line.split(" | ") for line in gpu.compare_batches(None).splitlines()[2:6]]
    assert [row[:2] for row in rows] == [["| 1024", "0.01"], ["| 1024", "0.02"], ["| 4096", "0.02"], ["| 4096", "0.04"]]
    assert rows[3][2:] == ["3.00", "4.00% ± 0.00%", "50.00% ± 0.00% |"]  # the median of 2, 3 and 4 seconds


def test_runs_on_a_gpu_are_compared_with_the_default_one(monkeypatch):
    def run(config, data, change):
        faster = 2 if change is gpu.graphed else 1
        return gpu.Run(seconds=(10 + config.seed) / faster, validation_accuracy=0.5, test_accuracy=0.99)

    monkeypatch.setattr(gpu, "run", run)
    epoch = speed.Run([8.0], [9.0], [0.5], [0.5], 12.0, 1.0)
    monkeypatch.setattr(speed, "run_loop", lambda script, flags, data_dir: epoch)
    text = gpu.compare_runs(None, "")
    default, amp, graphs, compiled = [line.split(" | ")[1:] for line in text.splitlines()[2:6]]
    assert default == ["3", "10.0", "11.5", "1.0 x", "99.00% |"]
    assert graphs == ["2", "5.0", "5.5", "2.1 x", "99.00% |"]
    assert amp == compiled == ["2", "10.0", "11.0", "1.0 x", "99.00% |"]
    assert "took 9.0 s" in text


def test_report_prints_and_writes_what_is_measured(tmp_path, capsys):
    speed.report("a machine", [lambda: "one", lambda: "two"], tmp_path / "speed.md")
    assert capsys.readouterr().out == "a machine\n\none\n\ntwo\n"
    assert (tmp_path / "speed.md").read_text() == "a machine\n\none\n\ntwo\n"


@pytest.mark.parametrize("digit", range(10))
def test_drawings_that_the_reading_weights_learn_from_have_mnists_form(monkeypatch, digit):
    def enlarged(image, random, height, pen, canvas):  # redraw() needs scikit-image
        return enlarge(image, random, canvas)

    monkeypatch.setattr(reading_weights, "redraw", enlarged)
    image = np.round(255 * draw(digit, size=28, height=0.7, pen=2)).astype(np.uint8)
    for seed in range(10):
        drawing = reading_weights.draw_again(image, digit, np.random.default_rng(seed))
        assert drawing.dtype == np.uint8
        left, top, right, bottom = Image.fromarray(drawing).getbbox()
        assert max(right - left, bottom - top) == BOX
        assert np.array(ndimage.center_of_mass(drawing)) + 0.5 == pytest.approx([CENTRE, CENTRE], abs=0.51)


def test_reading_weights_learn_from_unusual_shapes_and_from_cut_digits(monkeypatch):
    shapes, sums = [], []
    monkeypatch.setattr(reading_weights, "redraw", lambda *arguments: np.ones((200, 200)))
    monkeypatch.setattr(reading_weights, "reshape", lambda image, random, shape: shapes.append(shape))
    monkeypatch.setattr(reading_weights, "normalize", lambda ink: sums.append(ink.sum()))
    for digit in range(10):
        for seed in range(100):
            reading_weights.draw_again(None, digit, np.random.default_rng(seed))
    # Of 100 ones, sixes or nines, 60 are expected, give or take 5; ones and nines have two shapes.
    expected = {kind: 60 if digit == 6 else 30 for kind, digit in SHAPES.items()}
    assert {shape: shapes.count(shape) for shape in expected} == pytest.approx(expected, abs=20)
    assert sum(np.array(sums) < 40_000) == pytest.approx(300, abs=60)  # of 1,000 drawings; 3 in 10 are cut
    assert min(sums) >= 0.9 * 40_000


def test_parts_of_blank_photos_have_mnists_form_and_are_no_upright_bars(monkeypatch):
    parts = [reading_weights.parts_of_blank_photo(index) for index in range(30)]
    images = np.stack(list(chain.from_iterable(parts)))
    assert len(images) > 30
    assert images.dtype == np.uint8
    for image in images:
        left, top, right, bottom = Image.fromarray(image).getbbox()
        assert max(right - left, bottom - top) == BOX
    assert np.array_equal(images[: len(parts[0])], reading_weights.parts_of_blank_photo(0))

    boxes = [np.array([0, 0, *shape]) for shape in [(60, 12), (12, 60)]]
    upright, flat = (Candidate(np.ones(box[2:]), box, 0, box) for box in boxes)
    monkeypatch.setattr(reading_weights, "find_candidates", lambda picture: [upright, flat])
    (image,) = reading_weights.parts_of_blank_photo(0)
    rows, columns = np.nonzero(image)
    assert np.ptp(columns) > np.ptp(rows)


def test_what_a_process_returns_of_a_picture_is_no_tensor(monkeypatch, data, reference):
    """Each tensor that is sent between processes holds a file open, and there are thousands of pictures."""
    monkeypatch.setattr(pictures, "images_of", lambda split, data_dir: data.test)
    monkeypatch.setattr(pictures, "model", lambda checkpoint: reference)
    answer = pictures.read(("images", "280 x 280 pixels", True, 0), "test", data_dir=None, checkpoint=None)
    assert [type(value) for value in answer] == [bool, float]
