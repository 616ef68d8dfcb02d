from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY

from common.command_line import UserError
from evaluate import evaluate
from mnist.dataset import load_data
from model import DigitCNN
from own_digits.reader import REFERENCE_WEIGHTS, load_best_weights
from training.checkpoint import load_checkpoint, load_weights
from training.metrics import best_epoch, read_metrics


def test_reference_weights_are_tensors_only_and_small():
    state = torch.load(REFERENCE_WEIGHTS, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert REFERENCE_WEIGHTS.stat().st_size < 200_000


def test_reference_weights_give_the_accuracy_of_their_run(reference, mnist_dir):
    evaluation = evaluate(reference, load_data("mnist", mnist_dir).test)
    best = best_epoch(read_metrics(REPOSITORY / "results" / "default" / "seed-0" / "metrics.csv"))
    # No rounding changes an answer: kernels differ by 6e-6 in a logit, an image's two highest logits by 0.01 and more.
    assert evaluation.accuracy == best.test_accuracy
    assert evaluation.loss == pytest.approx(best.test_loss, rel=1e-6)


def test_weights_that_evaluate_wrote_are_those_of_the_checkpoint(small_run, data_dir, tmp_path, capsys):
    import evaluate as script
    import train

    train.main([*small_run, "--epochs", "1"])
    best, weights = tmp_path / "run" / "best.pt", tmp_path / "weights.pt"
    assert script.main([str(best), "--data-dir", str(data_dir), "--weights", str(weights)]) == 0
    load_weights(weights, model := DigitCNN())
    averaged = load_checkpoint(best)["averaged_model"]
    assert all(torch.equal(value, averaged[name]) for name, value in model.state_dict().items())


def test_own_checkpoint_answers_when_there_is_one(small_run, tmp_path, monkeypatch):
    import train

    monkeypatch.chdir(tmp_path)
    model = DigitCNN()
    assert load_best_weights(model, None) == "a reference run (results/default), as there is no checkpoints/best.pt"
    assert train.main([*small_run, "--epochs", "1", "--output-dir", "checkpoints"]) == 0
    assert load_best_weights(model, None) == "checkpoints/best.pt (epoch 1, synthetic)"
    averaged = load_checkpoint(Path("checkpoints/best.pt"))["averaged_model"]
    assert all(torch.equal(value, averaged[name]) for name, value in model.state_dict().items())
    Path("checkpoints/best.pt").rename("other.pt")
    assert load_best_weights(model, Path("other.pt")) == "other.pt (epoch 1, synthetic)"
    Path("checkpoints/best.pt").write_text("damaged")
    with pytest.raises(UserError, match="checkpoints/best.pt is damaged"):
        load_best_weights(model, None)
