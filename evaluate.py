"""Evaluate a checkpoint: python evaluate.py checkpoints/best.pt"""

import json
import math
import sys
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from common.command_line import Parser, UserError, command, user_path
from common.files import write_atomically
from mnist.augmentation import to_float
from mnist.dataset import check_classes, load_data
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
    confusion: Tensor  # (classes, classes): confusion[i, j] images of class i were classified as j
    logits: Tensor  # (images, classes) float64, on the CPU like the confusion matrix


def evaluate(model: nn.Module, dataset: TensorDataset, batch_size: int = 200) -> Evaluation:
    """Evaluate a model on a split, on the split's device, and leave the model in the mode that it was in."""
    if len(dataset) == 0:
        return Evaluation(0, 0, math.nan, math.nan, torch.empty(0, 0), torch.empty(0, 0))
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        batches = torch.arange(len(dataset), device=dataset.tensors[0].device).split(batch_size)
        loader = DataLoader(dataset, batch_size=None, sampler=batches)
        logits = torch.cat([model(to_float(images)) for images, _ in loader]).cpu().double()
    model.train(was_training)
    labels, classes = dataset.tensors[1].cpu(), logits.shape[1]
    pairs = classes * labels + logits.argmax(dim=1)
    confusion = torch.bincount(pairs, minlength=classes**2).view(classes, classes)
    images, correct = len(labels), int(confusion.trace())
    loss = F.cross_entropy(logits, labels).item()
    return Evaluation(images, correct, correct / images, loss, confusion, logits)


def report(evaluation: Evaluation, classes: list[str], title: str) -> str:
    """Describe an evaluation as text: accuracy and loss, accuracy of each class, confusion matrix."""
    counts = f"{evaluation.correct:,} of {evaluation.images:,} images"
    lines = [title, f"accuracy {evaluation.accuracy:.2%} ({counts}), loss {evaluation.loss:.4f}", ""]
    longest = max(map(len, classes))
    first, width = max(4, longest), max(6, longest + 2)  # column widths
    lines.append(f"{'true':{first}}    accuracy   answered" + "".join(f"{name:>{width}}" for name in classes))
    for number, row in enumerate(evaluation.confusion.tolist()):
        accuracy = f"{row[number] / sum(row):.2%}" if sum(row) else "no image"
        cells = "".join(f"{count or '.':>{width}}" for count in row)
        lines.append(f"{classes[number]:>{first}}   {accuracy:>9}{'':11}{cells}")
    return "\n".join(lines)


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser("evaluate.py", description="Evaluate a checkpoint on every image of a split.")
    add = parser.add_argument
    add("checkpoint", type=user_path, metavar="CHECKPOINT", help="best.pt or last.pt of a run, or weights")
    add("--data-dir", type=user_path, default=Path("data"), help="folder of the data sets (default: data)")
    add("--split", choices=["test", "validation", "train"], default="test", help="(default: test)")
    add("--device", default="auto", help="auto, cpu, cuda, mps, ... (default: auto)")
    add("--json", action="store_true", help="print one JSON object instead of the report")
    add("--pictures", type=user_path, metavar="DIR", help="draw confusion matrix, mistakes and filters in DIR")
    add("--weights", type=user_path, metavar="FILE", help="save only the network's weights to FILE, as a state_dict")
    args = parser.parse_args(argv)

    device = choose_device(args.device)
    model = DigitCNN().to(device)
    checkpoint = load_weights(args.checkpoint, model)
    config = config_from(checkpoint.get("config", {}), args.checkpoint)  # a bare state_dict has none: use the default
    if not args.data_dir.exists() and args.data_dir != parser.get_default("data_dir"):  # the default may be missing
        raise UserError(f"there is no folder {args.data_dir}: give the --data-dir of the training run")
    data = load_data(config, args.data_dir, device)
    check_classes(model, data, checkpoint.get("dataset", {}))
    split, classes, md5 = getattr(data, args.split), data.description["classes"], data.description["md5"]
    if checkpoint.get("dataset", {}).get("md5", md5) != md5:
        print(f"warning: the checkpoint was trained on different files of {config.dataset}", file=sys.stderr)
    if len(split) == 0:
        raise UserError(f"{args.checkpoint} comes from a run without validation images: choose --split test or train")
    evaluation = evaluate(model, split)

    epoch = f"epoch {checkpoint['epoch']}" if "epoch" in checkpoint else "weights only, assumed to be for MNIST"
    title = f"{args.checkpoint.name} ({epoch}) on {config.dataset}, {args.split} images"
    if args.json:
        names = {"checkpoint": str(args.checkpoint), "dataset": config.dataset, "classes": classes, "split": args.split}
        scores = {name: getattr(evaluation, name) for name in ("images", "correct", "accuracy", "loss")}
        print(json.dumps({**names, **scores, "confusion_matrix": evaluation.confusion.tolist()}))
    else:
        print(report(evaluation, classes, title))
    if args.weights:
        write_atomically(args.weights, serialize(model.cpu().state_dict()))
    pictures = []
    if args.pictures:
        from training.charts import draw_charts  # here, as importing matplotlib takes half a second

        pictures = draw_charts(args.pictures, model, split, evaluation, classes, title)
    if written := [str(path) for path in (args.weights, *pictures) if path]:
        print(f"Written: {', '.join(written)}", file=sys.stderr if args.json else sys.stdout)


if __name__ == "__main__":
    raise SystemExit(main())
