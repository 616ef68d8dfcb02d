import copy
import json
import math
import subprocess
import sys

import pytest
import torch
from conftest import REPOSITORY, SMALL, SMALL_CONFIG
from torch import nn
from torch.utils.data import TensorDataset

import evaluate
import train
from mnist.dataset import load_data
from model import DigitCNN
from own_digits.reader import DIGITS
from training.config import TrainConfig
from training.run_files import load_weights


class FirstPixel(nn.Module):
    """Answers with the brightness of the top left pixel as the probability of digit 0, the rest being digit 1."""

    def forward(self, images):
        first = images[:, 0, 0, 0]  # (B,)
        return torch.stack([first.log(), (1 - first).log(), *[torch.full_like(first, -math.inf)] * 8], dim=1)


def test_evaluation_equals_the_answer_computed_by_hand():
    images = torch.tensor([51, 204, 51], dtype=torch.uint8).view(3, 1, 1).expand(3, 28, 28)  # 0.2, 0.8, 0.2
    evaluation = evaluate.evaluate(FirstPixel(), TensorDataset(images, torch.tensor([1, 0, 0])))
    assert evaluation.correct == 2  # 1 with 0.8, 0 with 0.8; then 0 with 0.2, which is wrong
    assert evaluation.accuracy == 2 / 3
    assert evaluation.loss == pytest.approx(-(2 * math.log(0.8) + math.log(0.2)) / 3, rel=1e-6)
    assert evaluation.confusion[0, :2].tolist() == [1, 1]
    assert evaluation.confusion[1, :2].tolist() == [0, 1]
    assert evaluation.confusion.sum() == 3


@pytest.fixture
def set_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# Of the weights in results/reading, logits differ by 6e-6 at most between kernels (AVX2, SSE4.1), numbers of threads,
# and batch sizes. The two highest of an image differ by 0.1 and more on the synthetic test images, by 0.01 and more on
# MNIST's: no rounding changes an answer.
@pytest.mark.parametrize("batch_size", [1, 7, 200, 1000])
@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.exhaustive), 3])
def test_evaluation_depends_neither_on_the_batch_size_nor_on_the_threads(
    reference, data, set_threads, batch_size, threads
):
    one = evaluate.evaluate(reference, data.test, 64)
    set_threads(threads)
    other = evaluate.evaluate(reference, data.test, batch_size)
    assert other.images == 300
    assert one.correct == other.correct
    assert one.loss == pytest.approx(other.loss, abs=1e-6)
    torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=6e-5)


def test_evaluation_on_real_mnist_depends_neither_on_the_batch_size_nor_on_the_threads(
    reference, mnist_dir, set_threads
):
    test = load_data(TrainConfig(), mnist_dir).test
    one = evaluate.evaluate(reference, test)
    for threads, batch_size in ((1, 7), (2, 1000), (3, 10_000)):
        set_threads(threads)
        other = evaluate.evaluate(reference, test, batch_size)
        assert one.correct == other.correct
        assert one.loss == pytest.approx(other.loss, abs=1e-6)


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="wants an accelerator")
def test_evaluation_does_not_depend_on_the_device(reference, data):
    model, device = copy.deepcopy(reference), torch.accelerator.current_accelerator()
    one = evaluate.evaluate(model, data.test)
    other = evaluate.evaluate(model.to(device), TensorDataset(*(tensor.to(device) for tensor in data.test.tensors)))
    assert one.correct == other.correct
    assert one.loss == pytest.approx(other.loss, abs=1e-4)  # convolutions in TF32 there


def test_evaluation_of_no_image_has_no_accuracy_and_no_loss(reference):
    nothing = TensorDataset(torch.zeros(0, 28, 28, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    evaluation = evaluate.evaluate(reference, nothing)
    assert (evaluation.images, evaluation.correct) == (0, 0)
    assert math.isnan(evaluation.accuracy) and math.isnan(evaluation.loss)


def test_evaluation_leaves_the_model_as_it_was(data):
    model = DigitCNN().train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    evaluate.evaluate(model, data.test)
    assert model.training
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_evaluation_runs_the_model_in_evaluation_mode(data):
    modes = []
    model = DigitCNN().train()
    model.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    evaluate.evaluate(model, data.test, 300)
    assert modes == [False]


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    assert train.main([*SMALL, "--epochs", "1", "--data-dir", str(data_dir), "--output-dir", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("checkpoint", ["best.pt", "last.pt"])
@pytest.mark.parametrize(("split", "images"), [("test", 300), ("validation", 200), ("train", 800)])
def test_json_says_what_metrics_csv_says(run, data_dir, capsys, checkpoint, split, images):
    from training.metrics import read_metrics

    capsys.readouterr()
    flags = ["--data-dir", str(data_dir), "--split", split, "--json", "--device", "cpu"]
    assert evaluate.main([str(run / checkpoint), *flags]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["dataset"] == "synthetic"
    assert answer["split"] == split
    assert answer["images"] == images
    assert answer["accuracy"] == answer["correct"] / images
    assert sum(map(sum, answer["confusion_matrix"])) == images
    assert sum(answer["confusion_matrix"][digit][digit] for digit in range(10)) == answer["correct"]
    if split != "train":  # whose metrics are running ones
        epoch = read_metrics(run / "metrics.csv")[-1]
        assert answer["accuracy"] == getattr(epoch, f"{split}_accuracy")
        assert answer["loss"] == getattr(epoch, f"{split}_loss")


def test_report_has_accuracy_loss_and_a_row_for_each_digit(run, data_dir, capsys):
    capsys.readouterr()
    assert evaluate.main([str(run / "best.pt"), "--data-dir", str(data_dir)]) == 0
    title, summary, _, heading, *rows = capsys.readouterr().out.splitlines()
    assert "best.pt (epoch 1) on synthetic, test images" in title
    assert summary.startswith("accuracy ")
    assert "of 300 images), loss " in summary
    assert [row.split()[0] for row in rows] == [str(digit) for digit in range(10)]
    test = load_data(SMALL_CONFIG, data_dir).test
    counts = [[int(cell) if cell != "." else 0 for cell in row.split()[2:]] for row in rows]
    images = test.tensors[1].bincount(minlength=10).tolist()
    assert [sum(row) for row in counts] == images
    accuracies = [f"{row[digit] / count:.2%}" for digit, (row, count) in enumerate(zip(counts, images, strict=True))]
    assert [row.split()[1] for row in rows] == accuracies


def test_pictures_show_the_confusion_matrix_and_each_misread_image(tmp_path):
    import numpy as np
    from PIL import Image

    from training.charts import draw_confusion_matrix, draw_mistakes

    labels = torch.arange(10).repeat(3)
    logits = torch.nn.functional.one_hot(labels, 10).double() * 9
    logits[3], logits[14] = logits[5] / 2, logits[16]  # a 3 read as 5, a 4 read as 6 with more confidence
    confusion = torch.eye(10, dtype=torch.int64) * 3
    confusion[3, 3], confusion[3, 5], confusion[4, 4], confusion[4, 6] = 2, 1, 2, 1
    images = torch.full((30, 28, 28), 255, dtype=torch.uint8)  # all ink: a black square for each mistake
    images[3, :, 14:] = 0  # and for the 3 a black half
    draw_confusion_matrix(tmp_path / "confusion_matrix.png", confusion.numpy(), DIGITS, "title")
    probabilities = logits.softmax(dim=1).numpy()
    draw_mistakes(tmp_path / "mistakes.png", images.numpy(), labels.numpy(), probabilities, DIGITS, "title")

    with Image.open(tmp_path / "confusion_matrix.png") as picture:
        red, _, blue = np.asarray(picture.convert("RGB")).astype(int).reshape(-1, 3).T
        assert ((red - blue) > 100).mean() == pytest.approx(0.02 * 0.8, rel=0.3)  # 2 red cells of 100
    with Image.open(tmp_path / "mistakes.png") as picture:
        black = np.asarray(picture.convert("L")) == 0
        columns = (black.sum(axis=0) > 50).nonzero()[0]
        gap = np.diff(columns).argmax()  # the 4, of which the network is surer, comes first
        assert (np.diff(columns) > 1).sum() == 1
        assert gap + 1 == pytest.approx(2 * (len(columns) - gap - 1), abs=3)


def test_filters_are_drawn_of_the_evaluated_weights_and_an_image_of_each_digit(run, data_dir, tmp_path, monkeypatch):
    from training import charts

    drawn = []
    monkeypatch.setattr(charts, "draw_filters", lambda *arguments: drawn.extend(arguments) or True)
    flags = ["--data-dir", str(data_dir), "--device", "cpu", "--pictures", str(tmp_path)]
    assert evaluate.main([str(run / "best.pt"), *flags]) == 0
    path, model, images, title = drawn
    assert path == tmp_path / "filters.png"
    assert title == "best.pt (epoch 1) on synthetic, test images"
    load_weights(run / "best.pt", expected := DigitCNN())
    assert torch.equal(model.conv1.weight, expected.conv1.weight)
    test_images, labels = load_data(SMALL_CONFIG, data_dir).test.tensors
    assert len(images) == 10
    for digit, image in enumerate(images):
        assert torch.equal(image, test_images[labels == digit][0])


@pytest.mark.exhaustive
def test_scripts_run_with_their_output_closed(run, data_dir):
    command = [sys.executable, "evaluate.py", str(run / "best.pt"), "--data-dir", str(data_dir)]
    result = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    assert result.stderr == ""
    assert result.returncode == 0


@pytest.mark.parametrize(
    "flags",
    [[], ["--split", "all"], ["--device", "abacus"], ["--data-dir"], ["--batch-size", "9"], ["--pictures", "file"]],
    ids=" ".join,
)
def test_wrong_argument_is_one_line_and_exit_code_2(run, data_dir, tmp_path, capsys, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    capsys.readouterr()
    assert evaluate.main([str(run / "best.pt"), "--data-dir", str(data_dir), *flags] if flags else []) == 2
    error = capsys.readouterr().err
    assert error.startswith("evaluate.py: error: ")
    assert error.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_data_folder_that_is_not_there_is_an_error_and_is_not_made(run, tmp_path, capsys):
    capsys.readouterr()
    assert evaluate.main([str(run / "best.pt"), "--data-dir", str(tmp_path / "dta")]) == 2
    message = f"there is no folder {tmp_path / 'dta'}: give the --data-dir of the training run"
    assert capsys.readouterr().err == f"evaluate.py: error: {message}\n"
    assert list(tmp_path.iterdir()) == []


class FlatCNN(nn.Module):
    """A network that flattens as many do, which PyTorch refuses for no images at all."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def forward(self, images):
        return self.layer(images.view(images.size(0), -1))


def test_network_that_cannot_take_an_empty_batch_trains_without_validation_images(small_run, monkeypatch):
    monkeypatch.setattr(train, "DigitCNN", FlatCNN)
    assert train.main([*small_run, "--epochs", "1", "--validation-size", "0"]) == 0


def test_missing_checkpoint_is_one_line_and_exit_code_2(tmp_path, capsys):
    assert evaluate.main([str(tmp_path / "best.pt")]) == 2
    assert capsys.readouterr().err == (
        f"evaluate.py: error: there is no {tmp_path / 'best.pt'}: train first (python train.py), or give another file\n"
    )
