"""Train the network on MNIST.

python train.py --epochs 10
"""

if __name__ == "__main__":  # before the imports, which take a second: Ctrl-C ends in one line there, too
    from common import command_line

    command_line.start()

import copy
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from tqdm import tqdm

from common.command_line import Interruption, UserError, command, leave
from common.files import archive, only_one, read_json, write_atomically, write_json
from cuda_graph import CapturedStep
from evaluate import evaluate
from mnist.augmentation import random_maps, warp
from mnist.dataset import Data, Split, batches, load_data, to_float
from model import DigitCNN
from optimizer import AdamW, learning_rate_at
from training.checkpoint import describe_run, find_run, serialize
from training.config import TrainConfig, parse_arguments
from training.device import choose_device, keep_freed_memory
from training.distributed import first_here, from_first, process_group, processes, rank, replicate, share, total
from training.metrics import EpochMetrics, best_epoch, epoch_row, table_heading, write_metrics

EMA_RAMP = 10  # the average starts short: after n steps it spans about the last n / 9 of them
FINAL_STRENGTH = 0.5  # of augmentation at the end of a run, to which it falls in a line


class Training(NamedTuple):
    """All that training changes."""

    model: DigitCNN
    averaged_model: DigitCNN  # its weights are the exponential moving average of the model's
    optimizer: AdamW
    replica: nn.Module  # the model; of several processes, it gives each the mean of their gradients

    def parts(self) -> dict:
        return {"model": self.model, "averaged_model": self.averaged_model, "optimizer": self.optimizer}

    def state_dict(self) -> dict[str, dict]:
        return {name: part.state_dict() for name, part in self.parts().items()}

    def load_state_dict(self, state: dict[str, dict]) -> None:
        for name, part in self.parts().items():
            part.load_state_dict(state[name])


def build_training(config: TrainConfig, device: torch.device) -> Training:
    """Return the network, the moving average of its weights, and the optimizer, all at their start."""
    torch.manual_seed(config.seed)
    model = DigitCNN().to(device)
    return Training(model, copy.deepcopy(model), AdamW(model.parameters(), config.weight_decay), replicate(model))


def epoch_generator(seed: int, epoch: int) -> Generator:
    """Return the generator of all random draws of one epoch; it does not matter whether the run was resumed before."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def train_step(
    training: Training,
    images: Tensor,
    labels: Tensor,
    maps: Tensor | None,
    learning_rate: Tensor,
    ema_weight: Tensor,
    count: float,
    amp: bool = False,
) -> tuple[Tensor, Tensor]:
    """Train on one batch: images, (B, 28, 28) uint8; labels, (B,); maps that augment them, (B, 2, 19).

    One of P processes does this for its share of a batch, and count is a P-th of the whole batch: then the mean over
    the processes of their gradients is that of the batch, however it is divided. Returns the share's summed loss and
    its count of correct answers. Everything stays on the device.
    """
    model, averaged_model, optimizer, replica = training
    images = to_float(images)  # (B, 28, 28) uint8 -> (B, 1, 28, 28) in [0, 1]
    if maps is not None:
        images = warp(images, maps)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=amp):
        logits = replica(images)  # (B, 10)
        loss = F.cross_entropy(logits, labels, reduction="sum") / count  # in float32, with amp too
    loss.backward()
    optimizer.step(learning_rate)  # and forget the gradients
    with torch.no_grad():
        for average, weight in zip(averaged_model.parameters(), model.parameters(), strict=True):
            average.lerp_(weight, ema_weight)
    return loss.detach() * count, (logits.argmax(dim=1) == labels).sum()


def schedule_epoch(config: TrainConfig, epoch: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return the learning rate and the weight of the new weights in the moving average at each step, both (steps,)."""
    rates, ema_weights = [], []
    for step in range((epoch - 1) * steps, epoch * steps):  # counted from the start of the run
        progress = (step + 0.5) / (config.epochs * steps)  # at the middle of the step
        rates.append(learning_rate_at(progress, config.learning_rate, config.schedule))
        # The first weights are far from the last ones, so the average starts short and grows to its full length.
        ema_weights.append(1 - min(config.ema_decay, (1 + step) / (EMA_RAMP + step)))
    return torch.tensor(rates), torch.tensor(ema_weights)


def train_one_epoch(
    training: Training, split: Split, config: TrainConfig, epoch: int, step: Callable = train_step
) -> tuple[float, float, float]:
    """Train on every image once, in random order.

    Returns the running loss (nats per image) and accuracy (a fraction), and the learning rate of the last step.
    All random draws are made at the start, on the CPU, for the epoch as a whole: they don't depend on the device.
    Raises UserError when a loss is infinite or not a number: on one CPU at that step, else at the end of the epoch.
    """
    device, count, batch_size = split.images.device, len(split.labels), config.batch_size
    generator = epoch_generator(config.seed, epoch)
    order = torch.randperm(count, generator=generator).to(device)
    steps = math.ceil(count / batch_size)
    maps = [None] * steps
    if config.augment:
        progress = (epoch - 1 + torch.arange(count) / count) / config.epochs  # from 0 to 1 over the run, of each image
        strengths = 1 - (1 - FINAL_STRENGTH) * progress
        maps = [share(batch) for batch in random_maps(strengths, generator).to(device).split(batch_size)]
    counts = [len(batch) / processes() for batch in order.split(batch_size)]
    rates, ema_weights = (values.to(device) for values in schedule_epoch(config, epoch, steps))
    results = []  # summed loss and correct answers of each batch; they stay on the device until the epoch ends
    training.model.train()
    bar = tqdm(batches(split, batch_size, order), f"epoch {epoch}", steps, leave=False, disable=rank() > 0 or None)
    for (images, labels), *settings in zip(bar, maps, rates, ema_weights, counts, strict=True):
        results.append(step(training, images, labels, *settings, config.amp))
        # An accelerator would have to wait for the answer, and other processes for this one.
        if device.type == "cpu" and processes() == 1 and not results[-1][0].isfinite():
            break
    losses, correct = (total(torch.stack(values)).cpu() for values in zip(*results, strict=True))
    if not (finite := losses.isfinite()).all():
        wrong = int(finite.int().argmin())  # the first
        raise diverged(losses[wrong].item(), f"in epoch {epoch} at step {wrong + 1} of {steps}", rates[wrong], config)
    return losses.double().sum().item() / count, correct.sum().item() / count, rates[-1].item()


def diverged(loss: float, when: str, learning_rate: float, config: TrainConfig) -> UserError:
    """Return the error of a loss that is infinite or not a number."""
    return UserError(
        f"the loss became {loss} {when}, learning rate {learning_rate:g}: try a smaller --learning-rate than "
        f"{config.learning_rate:g} (or --weight-decay than {config.weight_decay:g}); "
        "the checkpoints of the epochs before are kept"
    )


def run_epoch(training: Training, data: Data, config: TrainConfig, epoch: int, step: Callable) -> EpochMetrics:
    """Train for one epoch, then evaluate the averaged weights. Raises UserError when a loss is no longer finite."""
    started = time.perf_counter()
    train_loss, train_accuracy, learning_rate = train_one_epoch(training, data.train, config, epoch, step)
    train_seconds = time.perf_counter() - started
    validation = evaluate(training.averaged_model, data.validation)
    test = evaluate(training.averaged_model, data.test)
    for name, loss in {"validation": validation.loss, "test": test.loss}.items():
        if not math.isfinite(loss):  # by the last step
            raise diverged(loss, f"on the {name} images after epoch {epoch}'s last step", learning_rate, config)
    scores = (train_loss, train_accuracy, validation.loss, validation.accuracy, test.loss, test.accuracy)
    return EpochMetrics(epoch, learning_rate, *scores, train_seconds)


def train(
    training: Training,
    data: Data,
    config: TrainConfig,
    history: list[EpochMetrics],
    run: dict,
    folder: Path,
    step: Callable = train_step,
) -> None:
    """Run the epochs that are left. After each, add it to history, write the files of the run, and print its row."""
    for epoch in range(len(history) + 1, config.epochs + 1):
        started = time.perf_counter()
        history.append(run_epoch(training, data, config, epoch, step))
        if rank() > 0:
            continue
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


def restore(training: Training, checkpoint: dict, run: dict) -> list[EpochMetrics]:
    """Bring training to where the checkpoint left it, and return the epochs so far. Raises UserError."""
    if checkpoint["dataset"] != run["dataset"]:
        raise UserError(f"can't resume: the files of {run['dataset']['name']} are not those that it was trained on")
    training.load_state_dict(checkpoint)
    return [EpochMetrics(**epoch) for epoch in checkpoint["history"]]


def open_folder(folder: Path, history: list[EpochMetrics], run: dict) -> None:
    """Continue the files of the run that has these epochs; or archive those of another run, and begin."""
    if history:
        write_metrics(folder / "metrics.csv", history)  # the run may have been stopped before it could
        earlier = read_json(folder / "run.json")
        if isinstance(seconds := earlier.get("seconds"), float):
            run["seconds"] = seconds
        if changed := [key for key in ("device", "processes", "threads", "versions") if earlier.get(key) != run[key]]:
            print(f"Other {', '.join(changed)} than before: the rest of the run may round differently.")
    else:
        if archived := archive(folder, ["last.pt", "best.pt", "metrics.csv", "run.json"]):
            print(f"The earlier run is now in {archived}")
        write_json(folder / "run.json", run)


@command
def main(argv: list[str] | None = None) -> None:
    args, settings = parse_arguments(argv)
    folder = args.output_dir
    device = choose_device(args.device)
    torch.backends.cudnn.deterministic = True  # the same seed gives the same bits
    keep_freed_memory()
    step = CapturedStep(train_step) if args.cuda_graph else train_step

    with process_group(device):
        if args.cuda_graph and (device.type != "cuda" or processes() > 1):
            raise UserError(f"--cuda-graph wants 1 process on an NVIDIA or AMD GPU, not {processes()} on {device}")
        if args.resume:
            _, settings = from_first(find_run, folder, settings)
        config = TrainConfig(**settings)
        with first_here():
            data = load_data(config.dataset, args.data_dir, config.validation_size, device)
        if config.batch_size > (count := len(data.train.labels)):
            raise UserError(f"--batch-size {config.batch_size} is more than the {count} training images")
        training = build_training(config, device)
        run = describe_run(config, data, device)

        with only_one(folder) if rank() == 0 else nullcontext():
            history = []
            # Again: the run may have gone on until the folder was ours alone.
            if args.resume and (checkpoint := from_first(find_run, folder, settings)[0]):
                history = restore(training, checkpoint, run)
            if rank() == 0:
                open_folder(folder, history, run)
                counts = ", ".join(f"{count:,} {name}" for name, count in run["dataset"]["images"].items())
                threads = f"{processes()} processes of " * (processes() > 1) + f"{run['threads']} threads"
                print(f"{data.name}: {counts} images; {device}, {threads}; seed {config.seed}")
                print("\n".join([table_heading(), *map(epoch_row, history)]), flush=True)
            try:
                train(training, data, config, history, run, folder, step)
            except Interruption as interruption:
                interruption.advice = "; the same command with --resume continues the run"
                raise
        if rank() == 0:
            best = best_epoch(history)
            scores = f"test accuracy {best.test_accuracy:.2%}, test loss {best.test_loss:.4f}"
            choice = f"\n{folder / 'best.pt'}: epoch {best.epoch}, the best by validation accuracy"
            print(f"{choice}; {scores}; epochs took {run['seconds']:.1f} s")


if __name__ == "__main__":
    leave(main())
