"""Train the network on MNIST.

python train.py --epochs 10
"""

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from augmentation import random_affine_maps, warp
from checkpoint import load_checkpoint, serialize, versions
from command_line import UserError, command
from config import TrainConfig, check_resumable, parse_arguments
from dataset import Data, Split, batches, load_data, to_float
from device import choose_device, keep_freed_memory
from evaluate import evaluate
from files import archive, write_atomically, write_json
from metrics import EpochMetrics, best_epoch, epoch_row, table_heading, write_metrics
from model import DigitCNN
from optimizer import AdamW, learning_rate_at


class Training(NamedTuple):
    """All that training changes."""

    model: DigitCNN
    averaged_model: AveragedModel
    optimizer: AdamW

    def state_dict(self) -> dict[str, dict]:
        return {name: part.state_dict() for name, part in self._asdict().items()}

    def load_state_dict(self, state: dict[str, dict]) -> None:
        for name, part in self._asdict().items():
            part.load_state_dict(state[name])


def build_training(config: TrainConfig, device: torch.device) -> Training:
    """Return the network, the moving average of its weights, and the optimizer, all at their start."""
    torch.manual_seed(config.seed)
    model = DigitCNN().to(device)

    def update_average(averaged: list[Tensor], weights: list[Tensor], updates: Tensor) -> None:
        # The first weights are far from the last ones, so the average starts short and grows to its full length.
        decay = min(config.ema_decay, (1 + int(updates)) / (10 + int(updates)))
        torch._foreach_lerp_(averaged, weights, 1 - decay)

    averaged_model = AveragedModel(model, multi_avg_fn=update_average)
    return Training(model, averaged_model, AdamW(model.parameters(), config.weight_decay))


def epoch_generator(seed: int, epoch: int) -> Generator:
    """Return the generator of all random draws of one epoch; it does not matter whether the run was resumed before."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def train_one_epoch(training: Training, split: Split, config: TrainConfig, epoch: int) -> tuple[float, float]:
    """Train on every image once, in random order. Return the running loss (nats per image) and accuracy (a fraction).

    All random draws are made at the start, on the CPU, for the epoch as a whole: they don't depend on the device.
    """
    model, averaged_model, optimizer = training
    device, count = split.images.device, len(split.labels)
    generator = epoch_generator(config.seed, epoch)
    order = torch.randperm(count, generator=generator).to(device)
    if config.augment:
        maps = random_affine_maps(count, generator).to(device).split(config.batch_size)  # (B, 2, 3) for each step
    steps = math.ceil(count / config.batch_size)
    losses, correct = [], []  # of each batch, summed; they stay on the device until the epoch ends
    model.train()
    bar = tqdm(batches(split, config.batch_size, order), f"epoch {epoch}", steps, leave=False, disable=None)
    for step, (images, labels) in enumerate(bar):
        images = to_float(images)  # (B, 28, 28) uint8 -> (B, 1, 28, 28) in [0, 1]
        if config.augment:
            images = warp(images, maps[step])
        logits = model(images)  # (B, 10)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        progress = (epoch - 1 + (step + 1) / (steps + 1)) / config.epochs
        optimizer.step(learning_rate_at(progress, config.learning_rate, config.schedule))
        averaged_model.update_parameters(model)
        losses.append(loss.detach() * len(labels))
        correct.append((logits.argmax(dim=1) == labels).sum())
    return torch.stack(losses).cpu().double().sum().item() / count, torch.stack(correct).sum().item() / count


def run_epoch(training: Training, data: Data, config: TrainConfig, epoch: int) -> EpochMetrics:
    """Train for one epoch, then evaluate the averaged weights. Raises UserError when the loss is no longer a number."""
    started = time.perf_counter()
    train_loss, train_accuracy = train_one_epoch(training, data.train, config, epoch)
    train_seconds = time.perf_counter() - started
    if not math.isfinite(train_loss):
        raise UserError(
            f"the loss became {train_loss} in epoch {epoch}: try a smaller --learning-rate than "
            f"{config.learning_rate:g}; the checkpoints of the epochs before are kept"
        )
    validation = evaluate(training.averaged_model.module, data.validation)
    test = evaluate(training.averaged_model.module, data.test)
    learning_rate = learning_rate_at(epoch / config.epochs, config.learning_rate, config.schedule)
    scores = (train_loss, train_accuracy, validation.loss, validation.accuracy, test.loss, test.accuracy)
    return EpochMetrics(epoch, learning_rate, *scores, train_seconds)


def train(training: Training, data: Data, config: TrainConfig, history: list[EpochMetrics], run: dict, folder: Path):
    """Run the epochs that are left. After each, print its row, add it to history and write the files of the run."""
    for epoch in range(len(history) + 1, config.epochs + 1):
        history.append(run_epoch(training, data, config, epoch))
        print(epoch_row(history[-1]), flush=True)
        record = {
            "epoch": epoch,
            "config": asdict(config),
            "dataset": run["dataset"],
            "versions": run["versions"],
            "history": [asdict(metrics) for metrics in history],
        }
        content = serialize({**training.state_dict(), **record})
        # best.pt comes before last.pt: after a crash between them, --resume repeats the epoch and writes both again.
        if best_epoch(history).epoch == epoch:
            write_atomically(folder / "best.pt", content)
        write_atomically(folder / "last.pt", content)
        write_metrics(folder / "metrics.csv", history)


@command
def main(argv: list[str] | None = None) -> None:
    started = time.perf_counter()
    args, settings = parse_arguments(argv)
    folder = args.output_dir
    checkpoint = None
    if args.resume and (folder / "last.pt").exists():
        checkpoint = load_checkpoint(folder / "last.pt")
        check_resumable(checkpoint["config"], settings)
        settings = checkpoint["config"]
    config = TrainConfig(**settings)

    device = choose_device(args.device)
    torch.backends.cudnn.deterministic = True  # the same seed gives the same bits
    keep_freed_memory()
    data = load_data(config.dataset, args.data_dir, config.validation_size, device)
    image_counts = {name: len(getattr(data, name).labels) for name in ("train", "validation", "test")}
    if config.batch_size > image_counts["train"]:
        raise UserError(f"--batch-size {config.batch_size} is more than the {image_counts['train']} training images")
    training = build_training(config, device)
    run = {
        "config": asdict(config),
        "dataset": {"name": data.name, "md5": data.checksums, "images": image_counts},
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }

    history = []
    if checkpoint:
        if checkpoint["dataset"] != run["dataset"]:
            raise UserError(f"can't resume: the files of {data.name} are not those that {folder} was trained on")
        training.load_state_dict(checkpoint)
        history = [EpochMetrics(**epoch) for epoch in checkpoint["history"]]
        write_metrics(folder / "metrics.csv", history)  # the run may have been stopped before it could
    elif archived := archive(folder, ["last.pt", "best.pt", "metrics.csv", "run.json"]):
        print(f"The earlier run is now in {archived}")
    write_json(folder / "run.json", run)

    counts = ", ".join(f"{count:,} {name}" for name, count in image_counts.items())
    print(f"{data.name}: {counts} images; {device}, {run['threads']} threads; seed {config.seed}")
    print("\n".join([table_heading(), *map(epoch_row, history)]), flush=True)
    try:
        train(training, data, config, history, run, folder)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command with --resume continues the run") from None
    run["seconds"] = round(time.perf_counter() - started, 1)
    write_json(folder / "run.json", run)
    best = best_epoch(history)
    print(
        f"\n{folder / 'best.pt'}: epoch {best.epoch}, the best by validation accuracy; "
        f"test accuracy {best.test_accuracy:.2%}, test loss {best.test_loss:.4f}; {run['seconds']} s in all"
    )


if __name__ == "__main__":
    raise SystemExit(main())
