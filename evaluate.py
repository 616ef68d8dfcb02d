"""Evaluate a checkpoint exactly: every image of a split counts once, whatever the batch size.

python evaluate.py checkpoints/best.pt
"""

if __name__ == "__main__":  # before the imports, which take a second: Ctrl-C ends in one line there, too
    from common import command_line

    command_line.start()

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.command_line import Parser, command, leave
from common.files import write_atomically
from mnist.dataset import Split, batches, load_data, to_float
from training.checkpoint import load_checkpoint, load_model, serialize
from training.device import choose_device
from training.distributed import processes, rank, total


@dataclass(frozen=True)
class Evaluation:
    """What a model answered on a whole split. All tensors are on the CPU."""

    labels: Tensor  # (N,) int64
    logits: Tensor  # (N, 10) float64

    @property
    def predictions(self) -> Tensor:
        return self.logits.argmax(dim=1)  # (N,)

    @property
    def correct(self) -> int:
        return int((self.predictions == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """The fraction of images answered correctly."""
        return self.correct / len(self.labels)

    @property
    def loss(self) -> float:
        """The mean cross-entropy in nats per image."""
        return F.cross_entropy(self.logits, self.labels).item()

    @property
    def confusion(self) -> Tensor:
        """Counts, (10, 10): confusion[i, j] images of digit i were answered j."""
        return torch.bincount(10 * self.labels + self.predictions, minlength=100).view(10, 10)


def evaluate(model: nn.Module, split: Split, batch_size: int = 200) -> Evaluation:
    """Run a model over a split, on the device of the split, and leave the model as it was.

    Several processes take the batches in turns, and each gets the whole answer.
    """
    was_training = model.training
    model.eval()
    logits = torch.zeros(len(split.labels), 10, device=split.labels.device)
    with torch.inference_mode():
        for number, ((images, _), answer) in enumerate(
            zip(batches(split, batch_size), logits.split(batch_size), strict=True)
        ):
            if number % processes() == rank():
                answer.copy_(model(to_float(images)))
    total(logits)
    model.train(was_training)
    return Evaluation(split.labels.cpu(), logits.cpu().double())


def report(evaluation: Evaluation, title: str) -> str:
    """Describe an evaluation as text: accuracy and loss, accuracy of each digit, confusion matrix."""
    correct, total = evaluation.correct, len(evaluation.labels)
    confusion = evaluation.confusion
    lines = [
        title,
        f"accuracy {evaluation.accuracy:.2%} ({correct:,} of {total:,} images), loss {evaluation.loss:.4f}",
        "",
        "true    accuracy   answered" + "".join(f"{digit:6}" for digit in range(10)),
    ]
    for digit, row in enumerate(confusion.tolist()):
        accuracy = f"{row[digit] / sum(row):.2%}" if sum(row) else "no image"
        lines.append(f"{digit:4}   {accuracy:>9}" + " " * 11 + "".join(f"{count or '.':>6}" for count in row))
    return "\n".join(lines)


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser("evaluate.py", description="Evaluate a checkpoint exactly: every image counts once.")
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="best.pt or last.pt of a run")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="where MNIST lies (default: data)")
    parser.add_argument("--split", choices=["test", "validation", "train"], default="test", help="(default: test)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, ... (default: auto)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the report")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write confusion_matrix.png, mistakes.png")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="write the network's weights alone, a state_dict")
    args = parser.parse_args(argv)

    checkpoint = load_checkpoint(args.checkpoint)
    device = choose_device(args.device)
    model = load_model(checkpoint, device)
    config = checkpoint["config"]
    data = load_data(config["dataset"], args.data_dir, config["validation_size"], device)
    split = getattr(data, args.split)
    evaluation = evaluate(model, split)

    title = f"{args.checkpoint.name} (epoch {checkpoint['epoch']}) on {data.name}, {args.split} images"
    if args.json:
        answer = {
            "checkpoint": str(args.checkpoint),
            "epoch": checkpoint["epoch"],
            "dataset": data.name,
            "split": args.split,
            "images": len(evaluation.labels),
            "correct": evaluation.correct,
            "accuracy": evaluation.accuracy,
            "loss": evaluation.loss,
            "confusion_matrix": evaluation.confusion.tolist(),
        }
        print(json.dumps(answer))
    else:
        print(report(evaluation, title))
    if args.weights:
        write_atomically(args.weights, serialize(dict(model.cpu().state_dict())))
    if args.pictures:
        from pictures import draw_confusion_matrix, draw_mistakes  # half a second of matplotlib, only when asked for

        draw_confusion_matrix(args.pictures / "confusion_matrix.png", evaluation, title)
        draw_mistakes(args.pictures / "mistakes.png", split.images.cpu(), evaluation, title)


if __name__ == "__main__":
    leave(main())
