"""Evaluate a checkpoint: python evaluate.py checkpoints/best.pt"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from common.command_line import Parser, UserError, command
from common.files import write_atomically
from mnist.augmentation import to_float
from mnist.dataset import load_data
from model import DigitCNN
from training.config import config_from
from training.distributed import choose_device
from training.run_files import load_weights, serialize


class Evaluation(NamedTuple):
    """The results of a model on one split."""

    images: int
    correct: int
    accuracy: float  # the fraction of images classified correctly; NaN, like the loss, for an empty split
    loss: float  # the mean cross-entropy in nats per image
    confusion: Tensor  # (10, 10): confusion[i, j] images of digit i were classified as j
    logits: Tensor  # (images, 10) float64, on the CPU like the confusion matrix


def evaluate(model: nn.Module, dataset: TensorDataset, batch_size: int = 200) -> Evaluation:
    """Evaluate a model on a split, on the device of the split; the model stays in the mode that it was in."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        batches = torch.arange(len(dataset), device=dataset.tensors[0].device).split(batch_size)
        loader = DataLoader(dataset, batch_size=None, sampler=batches)
        logits = torch.cat([model(to_float(images)) for images, _ in loader]).cpu().double()
    model.train(was_training)
    labels = dataset.tensors[1].cpu()
    confusion = torch.bincount(10 * labels + logits.argmax(dim=1), minlength=100).view(10, 10)
    images, correct = len(labels), int(confusion.trace())
    accuracy = correct / images if images else math.nan
    loss = F.cross_entropy(logits, labels).item()
    return Evaluation(images, correct, accuracy, loss, confusion, logits)


def report(evaluation: Evaluation, title: str) -> str:
    """Describe an evaluation as text: accuracy and loss, accuracy of each digit, confusion matrix."""
    counts = f"{evaluation.correct:,} of {evaluation.images:,} images"
    lines = [title, f"accuracy {evaluation.accuracy:.2%} ({counts}), loss {evaluation.loss:.4f}", ""]
    lines.append("true    accuracy   answered" + "".join(f"{digit:6}" for digit in range(10)))
    for digit, row in enumerate(evaluation.confusion.tolist()):
        accuracy = f"{row[digit] / sum(row):.2%}" if sum(row) else "no image"
        lines.append(f"{digit:4}   {accuracy:>9}" + " " * 11 + "".join(f"{count or '.':>6}" for count in row))
    return "\n".join(lines)


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser("evaluate.py", description="Evaluate a checkpoint exactly: every image counts once.")
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="best.pt or last.pt of a run, or weights")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of the data sets (default: data)")
    parser.add_argument("--split", choices=["test", "validation", "train"], default="test", help="(default: test)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, ... (default: auto)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the report")
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="draw confusion matrix, mistakes, filters into DIR"
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="write the network's weights alone, a state_dict")
    args = parser.parse_args(argv)

    device = choose_device(args.device)
    model = DigitCNN().to(device)
    checkpoint = load_weights(args.checkpoint, model)
    config = config_from(checkpoint.get("config", {}), args.checkpoint)  # a bare state_dict has none: the default
    split = getattr(load_data(config.dataset, args.data_dir, config.validation_size, device), args.split)
    if len(split) == 0:
        raise UserError(f"{args.checkpoint} is of a run without validation images: choose --split test or train")
    evaluation = evaluate(model, split)

    epoch = f" (epoch {checkpoint['epoch']})" if "epoch" in checkpoint else ""
    title = f"{args.checkpoint.name}{epoch} on {config.dataset}, {args.split} images"
    if args.json:
        names = {"checkpoint": str(args.checkpoint), "dataset": config.dataset, "split": args.split}
        scores = {name: getattr(evaluation, name) for name in ("images", "correct", "accuracy", "loss")}
        print(json.dumps({**names, **scores, "confusion_matrix": evaluation.confusion.tolist()}))
    else:
        print(report(evaluation, title))
    if args.weights:
        write_atomically(args.weights, serialize(model.cpu().state_dict()))
    if args.pictures:
        from training.charts import draw_charts  # matplotlib takes half a second

        draw_charts(args.pictures, model, split, evaluation.confusion, evaluation.logits, title)


if __name__ == "__main__":
    raise SystemExit(main())
