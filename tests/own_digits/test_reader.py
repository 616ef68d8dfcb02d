from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from drawing import draw, png
from scipy import ndimage

from benchmarks.reading_weights import BLANK_PHOTOS, parts_of_blank_photo
from common.command_line import UserError
from evaluate import evaluate
from mnist.dataset import load_data
from model import DigitCNN
from own_digits.digit_image import views
from own_digits.reader import READING_WEIGHTS, load_best_weights, read_number
from training.config import TrainConfig
from training.metrics import best_epoch, read_metrics
from training.run_files import load_checkpoint, load_weights


def test_reading_weights_are_tensors_only_and_small():
    state = torch.load(READING_WEIGHTS, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert READING_WEIGHTS.stat().st_size < 200_000


@pytest.mark.parametrize(("folder", "run"), [("default", "default/seed-0"), ("reading", "")])
def test_weights_in_the_repository_give_the_accuracy_of_their_run(folder, run, mnist_dir):
    load_weights(REPOSITORY / "results" / folder / "weights.pt", model := DigitCNN())
    evaluation = evaluate(model, load_data(TrainConfig(), mnist_dir).test)
    history = read_metrics(REPOSITORY / "results" / folder / run / "metrics.csv")
    epoch = best_epoch(history) if run else history[-1]
    # No rounding changes an answer: kernels differ by 6e-6 in a logit, an image's two highest logits by 0.007 and more.
    assert evaluation.accuracy == epoch.test_accuracy
    assert evaluation.loss == pytest.approx(epoch.test_loss, rel=1e-6)


def test_reading_weights_find_no_digit_likelier_than_another_in_what_is_none(reference):
    photos = range(BLANK_PHOTOS, BLANK_PHOTOS + 50)  # others than those that they learned from
    parts = np.stack([part for photo in photos for part in parts_of_blank_photo(photo)])
    with torch.inference_mode():
        highest = reference.probabilities(torch.from_numpy(parts).unsqueeze(1) / 255).max(dim=1).values
    assert highest.median() < 0.15
    assert highest.quantile(0.9) < 0.5


def test_weights_that_evaluate_wrote_are_those_of_the_checkpoint(small_run, data_dir, tmp_path, capsys):
    import evaluate as script
    import train

    train.main([*small_run, "--epochs", "1"])
    best, weights = tmp_path / "run" / "best.pt", tmp_path / "weights.pt"
    assert script.main([str(best), "--data-dir", str(data_dir), "--weights", str(weights)]) == 0
    load_weights(weights, model := DigitCNN())
    averaged = load_checkpoint(best)["averaged_model"]
    assert all(torch.equal(value, averaged[name]) for name, value in model.state_dict().items())


def test_averaged_weights_without_the_rest_of_a_checkpoint_answer(tmp_path):
    torch.save({"averaged_model": DigitCNN().state_dict()}, tmp_path / "own.pt")
    alone = "weights only, with classes assumed to be 0 to 9"
    assert load_best_weights(DigitCNN(), tmp_path / "own.pt").description == f"{tmp_path / 'own.pt'} ({alone})"


def test_own_checkpoint_answers_when_there_is_one_unless_it_is_of_synthetic_digits(small_run, tmp_path, monkeypatch):
    import train

    monkeypatch.chdir(tmp_path)
    model, own = DigitCNN(), Path("checkpoints/best.pt")
    description, classes, note = load_best_weights(model, None)
    assert description == "results/reading/weights.pt, as there is no checkpoints/best.pt"
    assert (classes, note) == (list("0123456789"), "")

    assert train.main([*small_run, "--epochs", "1", "--output-dir", "checkpoints"]) == 0
    description, _, note = load_best_weights(model, None)
    assert description == "results/reading/weights.pt, as checkpoints/best.pt was trained on synthetic digits"
    assert note == (
        "note: results/reading/weights.pt is used, as checkpoints/best.pt was trained on synthetic digits; "
        "to use checkpoints/best.pt anyway, add --checkpoint checkpoints/best.pt"
    )
    assert all(torch.equal(value, load_checkpoint(READING_WEIGHTS)[key]) for key, value in model.state_dict().items())
    assert load_best_weights(model, own) == ("checkpoints/best.pt (epoch 1, synthetic)", list("0123456789"), "")

    content = load_checkpoint(own)
    content["dataset"] = {**content["dataset"], "name": "mnist"}
    torch.save(content, own)
    description, _, note = load_best_weights(model, None)
    assert description == "checkpoints/best.pt (epoch 1, mnist)"
    assert note == f"note: checkpoints/best.pt is used; for photos of digits, --checkpoint {READING_WEIGHTS} is better"
    assert all(torch.equal(value, content["averaged_model"][key]) for key, value in model.state_dict().items())
    own.write_text("damaged")
    with pytest.raises(UserError, match="checkpoints/best.pt is damaged"):
        load_best_weights(model, None)


def test_views_are_the_image_and_its_rotations_and_scales():
    image = torch.zeros(28, 28)
    image[9:19, 12:16] = 1  # an upright bar
    rotated = views(image)
    assert rotated.shape == (9, 1, 28, 28)
    assert torch.allclose(rotated[0, 0], image, atol=1e-5)
    lengths, angles = [], []
    for view in rotated[:, 0].numpy():
        points = np.argwhere(view > 0.5) - ndimage.center_of_mass(view)
        (_, variance), axes = np.linalg.eigh(np.cov(points.T))
        lengths.append(np.sqrt(12 * variance))  # of a uniform bar
        angles.append(np.degrees(np.arctan2(*axes[:, 1][::-1] * np.sign(axes[0, 1]))))
    assert lengths == pytest.approx([10 * scale for scale in (1, 0.85, 1.15)] * 3, abs=1)
    assert sorted(angles) == pytest.approx([-10] * 3 + [0] * 3 + [10] * 3, abs=4)


def test_probabilities_are_the_mean_over_the_views(reference):
    (answer,) = read_number(reference, png(1 - draw(4))).digits
    with torch.inference_mode():
        each = reference.probabilities(views(torch.from_numpy(answer.image) / 255))
    assert answer.probabilities.tolist() == pytest.approx(each.mean(dim=0).tolist(), abs=1e-6)
    assert len(set(each.argmax(dim=1).tolist())) == 1
    assert max(answer.probabilities) < each[0].max()  # more careful than for the image alone
