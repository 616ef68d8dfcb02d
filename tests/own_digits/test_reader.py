import pytest
import torch
from conftest import REPOSITORY

from evaluate import evaluate
from mnist.dataset import load_data
from model import DigitCNN
from own_digits.reader import REFERENCE
from training.checkpoint import load_model
from training.metrics import best_epoch, read_metrics


def test_reference_weights_are_tensors_only_and_small():
    state = torch.load(REFERENCE, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert REFERENCE.stat().st_size < 200_000


def test_reference_weights_give_the_accuracy_of_their_run(mnist_dir):
    evaluation = evaluate(load_model(REFERENCE)[0], load_data("mnist", mnist_dir).test)
    best = best_epoch(read_metrics(REPOSITORY / "results" / "default" / "seed-0" / "metrics.csv"))
    # No rounding changes an answer: kernels differ by 6e-6 in a logit, an image's two highest logits by 0.01 and more.
    assert evaluation.accuracy == best.test_accuracy
    assert evaluation.loss == pytest.approx(best.test_loss, rel=1e-6)


def test_weights_that_evaluate_wrote_are_those_of_the_checkpoint(small_run, data_dir, tmp_path, capsys):
    import evaluate as script
    import train
    from training.checkpoint import load_checkpoint

    train.main([*small_run, "--epochs", "1"])
    best, weights = tmp_path / "run" / "best.pt", tmp_path / "weights.pt"
    assert script.main([str(best), "--data-dir", str(data_dir), "--weights", str(weights)]) == 0
    ours, theirs = load_model(weights)[0].state_dict(), load_checkpoint(best)["averaged_model"]
    assert all(torch.equal(ours[name], theirs[name]) for name in DigitCNN().state_dict())
