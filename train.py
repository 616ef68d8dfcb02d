"""Train the network on MNIST.

python train.py --epochs 10
"""

import copy
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator
from tqdm import tqdm

from augmentation import random_affine_maps, warp
from checkpoint import load_checkpoint, serialize, versions
from command_line import UserError, command, leave
from config import TrainConfig, check_resumable, parse_arguments
from dataset import Data, Split, batches, load_data, to_float
from device import choose_device, keep_freed_memory
from evaluate import evaluate
from files import archive, read_json, write_atomically, write_json
from metrics import EpochMetrics, best_epoch, epoch_row, table_heading, write_metrics
from model import DigitCNN
from optimizer import AdamW, learning_rate_at


class Training(NamedTuple):
    """All that training changes."""

    model: DigitCNN
    averaged_model: DigitCNN  # its weights are the exponential moving average of the model's
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
    return Training(model, copy.deepcopy(model), AdamW(model.parameters(), config.weight_decay))


def epoch_generator(seed: int, epoch: int) -> Generator:
    """Return the generator of all random draws of one epoch; it does not matter whether the run was resumed before."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


@torch.no_grad()
def update_average(averaged_model: DigitCNN, model: DigitCNN, decay: float) -> None:
    """Make the averaged weights decay * averaged + (1 - decay) * weights."""
    torch._foreach_lerp_(list(averaged_model.parameters()), list(model.parameters()), 1 - decay)


def train_one_epoch(training: Training, split: Split, config: TrainConfig, epoch: int) -> tuple[float, float, float]:
    """Train on every image once, in random order.

    Returns the running loss (nats per image) and accuracy (a fraction), and the learning rate of the last step.
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
        with torch.autocast(device.type, torch.bfloat16, enabled=config.amp):
            logits = model(images)  # (B, 10)
            loss = F.cross_entropy(logits, labels)  # in float32, with --amp too
        loss.backward()

        steps_done = (epoch - 1) * steps + step
        progress = (steps_done + 0.5) / (config.epochs * steps)  # at the middle of this step
        learning_rate = learning_rate_at(progress, config.learning_rate, config.schedule)
        optimizer.step(learning_rate)
        # The first weights are far from the last ones, so the average starts short and grows to its full length.
        update_average(averaged_model, model, min(config.ema_decay, (1 + steps_done) / (10 + steps_done)))
        losses.append(loss.detach() * len(labels))
        correct.append((logits.argmax(dim=1) == labels).sum())
    mean_loss = torch.stack(losses).cpu().double().sum().item() / count
    return mean_loss, torch.stack(correct).sum().item() / count, learning_rate


def run_epoch(training: Training, data: Data, config: TrainConfig, epoch: int) -> EpochMetrics:
    """Train for one epoch, then evaluate the averaged weights. Raises UserError when the loss is no longer a number."""
    started = time.perf_counter()
    train_loss, train_accuracy, learning_rate = train_one_epoch(training, data.train, config, epoch)
    train_seconds = time.perf_counter() - started
    if not math.isfinite(train_loss):
        raise UserError(
            f"the loss became {train_loss} in epoch {epoch}: try a smaller --learning-rate than "
            f"{config.learning_rate:g} (or --weight-decay than {config.weight_decay:g}); "
            "the checkpoints of the epochs before are kept"
        )
    validation = evaluate(training.averaged_model, data.validation)
    test = evaluate(training.averaged_model, data.test)
    scores = (train_loss, train_accuracy, validation.loss, validation.accuracy, test.loss, test.accuracy)
    return EpochMetrics(epoch, learning_rate, *scores, train_seconds)


def train(training: Training, data: Data, config: TrainConfig, history: list[EpochMetrics], run: dict, folder: Path):
    """Run the epochs that are left. After each, add it to history, write the files of the run, and print its row."""
    for epoch in range(len(history) + 1, config.epochs + 1):
        started = time.perf_counter()
        history.append(run_epoch(training, data, config, epoch))
        record = {
            "epoch": epoch,
            "config": asdict(config),
            "dataset": run["dataset"],
            "scheduler": {"schedule": config.schedule, "epochs_done": epoch},  # the rate follows from these alone
            "versions": run["versions"],
            "history": [asdict(metrics) for metrics in history],
        }
        content = serialize({**training.state_dict(), **record})
        # best.pt comes before last.pt: after a crash between them, --resume repeats the epoch and writes both again.
        if best_epoch(history).epoch == epoch:
            write_atomically(folder / "best.pt", content)
        write_atomically(folder / "last.pt", content)
        write_metrics(folder / "metrics.csv", history)
        run["seconds"] = round(run["seconds"] + time.perf_counter() - started, 2)
        write_json(folder / "run.json", run)
        print(epoch_row(history[-1]), flush=True)


def find_run(folder: Path, settings: dict) -> tuple[dict | None, dict]:
    """Return the checkpoint of the run to resume, None if it has none yet, and the settings of that run.

    Before its first checkpoint a run has its settings in run.json. Raises UserError where others were given.
    """
    checkpoint, saved = None, settings
    if (folder / "last.pt").exists():
        checkpoint = load_checkpoint(folder / "last.pt")
        saved = checkpoint["config"]
        if not (folder / "best.pt").exists():
            raise UserError(f"can't resume: {folder / 'best.pt'} is gone; start a new run without --resume")
    elif (folder / "run.json").exists():
        saved = read_json(folder / "run.json")["config"]
    check_resumable(saved, settings)
    return checkpoint, saved


def restore(training: Training, checkpoint: dict, run: dict, folder: Path) -> list[EpochMetrics]:
    """Bring training to where the checkpoint left it, and return the epochs so far. Raises UserError."""
    if checkpoint["dataset"] != run["dataset"]:
        raise UserError(f"can't resume: the files of {run['dataset']['name']} are not those that it was trained on")
    training.load_state_dict(checkpoint)
    history = [EpochMetrics(**epoch) for epoch in checkpoint["history"]]
    write_metrics(folder / "metrics.csv", history)  # the run may have been stopped before it could
    earlier = read_json(folder / "run.json")
    run["seconds"] = earlier["seconds"]
    if changed := [key for key in ("device", "threads", "versions") if earlier[key] != run[key]]:
        print(f"Other {', '.join(changed)} than before: the rest of the run may round differently.")
    return history


def describe_run(config: TrainConfig, data: Data, device: torch.device) -> dict:
    """Return the content of run.json: all that the numbers of a run may depend on."""
    images = {name: len(getattr(data, name).labels) for name in ("train", "validation", "test")}
    return {
        "config": asdict(config),
        "dataset": {"name": data.name, "md5": data.checksums, "images": images},
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "seconds": 0.0,  # of all epochs, with their evaluations and saving
    }


@command(interrupted="interrupted; the same command with --resume continues the run")
def main(argv: list[str] | None = None) -> None:
    args, settings = parse_arguments(argv)
    folder, checkpoint = args.output_dir, None
    if args.resume:
        checkpoint, settings = find_run(folder, settings)
    config = TrainConfig(**settings)

    device = choose_device(args.device)
    torch.backends.cudnn.deterministic = True  # the same seed gives the same bits
    keep_freed_memory()
    data = load_data(config.dataset, args.data_dir, config.validation_size, device)
    if config.batch_size > len(data.train.labels):
        raise UserError(f"--batch-size {config.batch_size} is more than the {len(data.train.labels)} training images")
    training = build_training(config, device)
    run = describe_run(config, data, device)

    if checkpoint:
        history = restore(training, checkpoint, run, folder)
    else:
        history = []
        if archived := archive(folder, ["last.pt", "best.pt", "metrics.csv", "run.json"]):
            print(f"The earlier run is now in {archived}")
        write_json(folder / "run.json", run)

    counts = ", ".join(f"{count:,} {name}" for name, count in run["dataset"]["images"].items())
    print(f"{data.name}: {counts} images; {device}, {run['threads']} threads; seed {config.seed}")
    print("\n".join([table_heading(), *map(epoch_row, history)]), flush=True)
    train(training, data, config, history, run, folder)
    best = best_epoch(history)
    print(
        f"\n{folder / 'best.pt'}: epoch {best.epoch}, the best by validation accuracy; "
        f"test accuracy {best.test_accuracy:.2%}, test loss {best.test_loss:.4f}; epochs took {run['seconds']:.1f} s"
    )


if __name__ == "__main__":
    leave(main())
