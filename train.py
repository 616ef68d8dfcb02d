"""Train the network on MNIST: python train.py --epochs 10"""

import copy
import json
import math
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from common.command_line import UserError, command
from common.files import archive, lock, write_atomically
from evaluate import evaluate
from mnist.augmentation import augment, random_maps
from mnist.dataset import Data, choose_dataset, load_data, to_float
from model import DigitCNN
from training import distributed
from training.config import TrainConfig, parse_arguments
from training.distributed import broadcast_from_rank_zero, rank, world_size
from training.metrics import EpochMetrics, best_epoch, table_heading, table_row, write_metrics
from training.run_files import describe_run, find_run, load_weights, serialize


class Training(NamedTuple):
    """All that training changes."""

    model: nn.Module
    averaged_model: nn.Module  # its weights are the exponential moving average of the model's
    optimizer: torch.optim.Optimizer
    ddp_model: nn.Module  # the model; in several processes, DistributedDataParallel averages their gradients


def build_training(config: TrainConfig, device: torch.device, init: Path | None = None) -> Training:
    """Return the network, with the weights in the file init if there is one, their average, and the optimizer."""
    torch.manual_seed(config.seed)
    model = DigitCNN().to(device)
    if init:
        load_weights(init, model)
    rate, betas = learning_rate_at(0, config), (config.beta1, config.beta2)
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas, weight_decay=config.weight_decay, fused=True)
    ddp_model = DistributedDataParallel(model) if world_size() > 1 else model
    return Training(model, copy.deepcopy(model), optimizer, ddp_model)


def learning_rate_at(progress: float, config: TrainConfig) -> float:
    """Return the learning rate when that fraction of the run, from 0 to 1, is done. Raises UserError.

    One-cycle rises linearly to its peak during the warm-up, then falls linearly to 0 (https://arxiv.org/abs/1708.07120).
    """
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "one-cycle":
        return config.learning_rate * min(progress / max(config.warm_up, 1e-9), (1 - progress) / (1 - config.warm_up))
    raise UserError(f"unknown schedule {config.schedule}")


def train_step(training: Training, batch: list[Tensor], divisor: float, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Train on a batch: images, (B, 28, 28) uint8; labels, (B,); with augmentation also maps, (B, 2, 3 + P).

    Each of several processes has a shard of the batch, and divisor is the whole batch's size over their number: so the
    mean of their gradients is that of the batch. Returns the summed loss and the number of correct answers, on device.
    """
    images, labels, *maps = batch
    images = to_float(images)  # (B, 28, 28) uint8 -> (B, 1, 28, 28) in [0, 1]
    if config.augment:
        images = augment(images, *maps)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=config.amp):
        logits = training.ddp_model(images)  # (B, 10)
        loss = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=config.label_smoothing)  # in float32
    training.optimizer.zero_grad()
    (loss / divisor).backward()
    training.optimizer.step()
    return loss.detach(), (logits.argmax(dim=1) == labels).sum()


@torch.no_grad()
def update_average(training: Training, step: int, config: TrainConfig) -> None:
    """Move the averaged weights towards the model's; buffers, too. step counts from 0 at the start of the run."""
    decay = min(config.ema_decay, (1 + step) / (config.ema_ramp + step))  # short at first: the first weights are poor
    averaged, current = ([*m.parameters(), *m.buffers()] for m in (training.averaged_model, training.model))
    for average, value in zip(averaged, current, strict=True):
        if average.is_floating_point():
            average.lerp_(value, 1 - decay)
        else:
            average.copy_(value)  # a counter, such as batch norm's


def epoch_seed(seed: int, epoch: int, stream: int = 0) -> int:
    """Return the seed of a stream of an epoch's random draws: the same whether or not the run was resumed."""
    return np.random.SeedSequence([seed, epoch, stream]).generate_state(1, np.uint64).item()


def train_one_epoch(training: Training, dataset: TensorDataset, config: TrainConfig, epoch: int) -> list[float]:
    """Train on every image once; return the running loss and accuracy, and the learning rate of the last step.

    Order and augmentation are drawn at the start, on the CPU, for the epoch as a whole: they depend on seed and epoch.
    """
    torch.manual_seed(epoch_seed(config.seed, epoch))
    tensors, count, device = list(dataset.tensors), len(dataset), dataset.tensors[0].device
    order = torch.randperm(count)
    if config.augment:
        progress = (epoch - 1 + torch.arange(count) / count) / config.epochs  # of the run, at each image of the order
        strengths = 1 - (1 - config.final_strength) * progress
        limits = [config.rotation_degrees, config.shear_degrees, config.scale_change, config.shift_pixels]
        maps = random_maps(strengths, limits, config.elastic_pixels, config.control_points)
        tensors.append(maps[order.argsort()].to(device))  # from the order of the epoch to that of the data set
    batches = order.to(device).split(config.batch_size)
    shards = [indices.tensor_split(world_size())[rank()] for indices in batches]  # of this process
    # With batch_size=None, each element of the sampler is the indices of a batch: one indexing operation.
    loader = DataLoader(TensorDataset(*tensors), batch_size=None, sampler=shards)
    results = []  # summed loss and correct answers of each batch; they stay on the device until the epoch ends
    training.model.train()
    torch.manual_seed(epoch_seed(config.seed, epoch, 1 + rank()))  # dropout's masks differ between processes
    bar = tqdm(loader, f"epoch {epoch}", leave=False, disable=rank() > 0 or None)
    for step, (batch, indices) in enumerate(zip(bar, batches, strict=True), (epoch - 1) * len(batches)):
        progress = (step + 0.5) / (config.epochs * len(batches))
        learning_rate = torch.tensor(learning_rate_at(progress, config)).item()  # in float32, like the weights
        for group in training.optimizer.param_groups:
            group["lr"] = learning_rate
        results.append(train_step(training, batch, len(indices) / world_size(), config))
        update_average(training, step, config)
    losses, correct = (distributed.all_reduce_sum(torch.stack(values)).cpu() for values in zip(*results, strict=True))
    return [losses.double().sum().item() / count, correct.sum().item() / count, learning_rate]


def run_epoch(training: Training, data: Data, config: TrainConfig, epoch: int) -> EpochMetrics:
    """Train for one epoch, then evaluate the averaged weights. Raises UserError when a loss is no longer finite."""
    started = time.perf_counter()
    train_loss, train_accuracy, learning_rate = train_one_epoch(training, data.train, config, epoch)
    train_seconds = time.perf_counter() - started
    validation, test = (evaluate(training.averaged_model, split) for split in (data.validation, data.test))
    if not math.isfinite(train_loss + validation.loss + test.loss):
        raise UserError(f"the loss became infinite or NaN in epoch {epoch}: try a smaller --learning-rate")
    scores = (train_loss, train_accuracy, validation.loss, validation.accuracy, test.loss, test.accuracy)
    return EpochMetrics(epoch, learning_rate, *scores, train_seconds)


def restore(training: Training, checkpoint: dict, run: dict) -> list[EpochMetrics]:
    """Bring training to where the checkpoint left it, and return the epochs so far. Raises UserError."""
    if checkpoint["dataset"] != run["dataset"]:
        raise UserError(f"can't resume: the files of {run['dataset']['name']} are not those that it was trained on")
    try:
        for name in ("model", "averaged_model", "optimizer"):
            getattr(training, name).load_state_dict(checkpoint[name])
        training.optimizer.step()  # without gradients: nothing moves, but another optimizer's state raises
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"can't resume: last.pt is of another network or optimizer ({error})") from error
    return [EpochMetrics(**epoch) for epoch in checkpoint["history"]]


def save(folder: Path, training: Training, run: dict, history: list[EpochMetrics]) -> None:
    """Write the files of the run after an epoch. Raises UserError when that fails."""
    checkpoint = {name: getattr(training, name).state_dict() for name in ("model", "averaged_model", "optimizer")}
    content = serialize({**checkpoint, **run, "epoch": len(history), "history": [asdict(epoch) for epoch in history]})
    if best_epoch(history) == history[-1]:
        write_atomically(folder / "best.pt", content)
    write_metrics(folder / "metrics.csv", history)
    write_atomically(folder / "run.json", json.dumps(run, indent=2) + "\n")
    write_atomically(folder / "last.pt", content)  # the last: after a crash before it, --resume repeats the epoch


@command
def main(argv: list[str] | None = None) -> None:
    args, settings = parse_arguments(argv)
    folder, device = args.output_dir, distributed.choose_device(args.device)
    torch.backends.cudnn.deterministic = True  # the same seed gives the same bits
    with distributed.process_group(), lock(folder) if rank() == 0 else nullcontext():
        checkpoint, settings = broadcast_from_rank_zero(find_run, folder, settings, args.resume)
        name, warning = broadcast_from_rank_zero(choose_dataset, settings.get("dataset", "auto"), args.data_dir)
        warning = "" if args.dataset == name else warning  # it was asked for
        config = TrainConfig(**{**settings, "dataset": name})
        data = load_data(name, args.data_dir, config.validation_size, device)
        if config.batch_size > len(data.train):
            raise UserError(f"--batch-size {config.batch_size} is more than the {len(data.train)} training images")
        run = describe_run(config, data.description, device, args.init)
        training = build_training(config, device, args.init)
        history = restore(training, checkpoint, run) if checkpoint else []
        if rank() == 0:
            if args.resume and not checkpoint:
                print(f"There is no run in {folder} to resume: a new one begins.")
            if checkpoint:
                run |= {name: checkpoint.get(name, run[name]) for name in ("init", "seconds")}
            elif archived := archive(folder, ["last.pt", "best.pt", "metrics.csv", "run.json"]):
                print(f"The earlier run is now in {archived}")
            print(warning, end="", file=sys.stderr, flush=True)
            counts = ", ".join(f"{count:,} {split}" for split, count in run["dataset"]["images"].items())
            machine = f"device {device}, processes {run['processes']}, threads {run['threads']}"
            print(f"{name}: {counts} images; {machine}, seed {config.seed}")
            print("\n".join([table_heading(), *map(table_row, history)]), flush=True)
        try:
            for epoch in range(len(history) + 1, config.epochs + 1):
                started = time.perf_counter()
                history.append(run_epoch(training, data, config, epoch))
                if rank() == 0:
                    run["seconds"] = round(run["seconds"] + time.perf_counter() - started, 2)
                    save(folder, training, run, history)
                    print(table_row(history[-1]), flush=True)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("; the same command with --resume continues the run" if history else "") from None

        if rank() == 0:
            best = best_epoch(history)
            scores = f"test accuracy {best.test_accuracy:.2%}, test loss {best.test_loss:.4f}"
            choice = f"\n{folder / 'best.pt'}: epoch {best.epoch}, the best by validation accuracy"
            print(f"{choice}; {scores}; epochs took {run['seconds']:.1f} s", flush=True)
            print(warning, end="", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
