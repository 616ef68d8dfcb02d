"""Train the network on MNIST. Start reading here: this file has all steps of a run, and main() is at its end.

    python train.py --epochs 10
    torchrun --nproc-per-node 2 train.py --epochs 10    # in two processes

The default recipe gives 99.55% test accuracy (mean of 20 seeds) with 30,840 parameters in about a minute on two cores.
"""

import copy
import math
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from common.command_line import UserError, command, shows_progress
from common.files import lock
from evaluate import evaluate
from mnist.augmentation import random_theta, to_float, warp
from mnist.dataset import Data, check_classes, choose_dataset, load_data
from model import DigitCNN
from training.config import TrainConfig, parse_arguments
from training.distributed import choose_device, on_rank_zero, process_group, rank, world_size
from training.metrics import EpochMetrics, best_epoch, describe_best, table_heading, table_row
from training.run_files import archive, describe_run, find_run, load_weights, restore, save


def learning_rate_at(progress: float, config: TrainConfig) -> float:
    """Return the learning rate at progress, the fraction of the run that is done.

    One-cycle rises linearly to its peak in the warm-up, then falls linearly to 0 (https://arxiv.org/abs/1708.07120).
    """
    if config.schedule == "one-cycle":
        return config.learning_rate * float(np.interp(progress, [0, config.warm_up, 1], [0, 1, 0]))
    return config.learning_rate


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Update the exponential moving average (EMA) of the model's parameters and buffers, in place."""
    averaged, current = ([*m.parameters(), *m.buffers()] for m in (average, model))
    for mean, value in zip(averaged, current, strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)  # a counter, such as batch norm's


def train_one_epoch(model, average, ddp_model, optimizer, dataset, config, epoch):
    """Train on every image once; return the mean loss and the accuracy, both measured while the weights change.

    dataset has images, (N, 28, 28) uint8, and labels, (N,), on the device. average holds the EMA of the weights of the
    model. ddp_model is the model, wrapped in DistributedDataParallel under torchrun.
    """
    # All randomness follows from (seed, epoch): a resumed run draws what the uninterrupted one drew.
    seeds = np.random.SeedSequence([config.seed, epoch]).generate_state(1 + world_size(), np.uint64).tolist()
    generator = torch.Generator().manual_seed(seeds[0])
    torch.manual_seed(seeds[1 + rank()])  # so that layers such as dropout draw different numbers on each rank
    all_images, all_labels = dataset.tensors
    order = torch.randperm(len(all_labels), generator=generator)
    position = order.argsort() / len(order)  # (N,): when each image comes up in the epoch, from 0 to 1
    strengths = 1 - (1 - config.final_strength) * (epoch - 1 + position) / config.epochs  # fading over the run
    limits = [config.rotation_degrees, config.shear_degrees, config.scale_change, config.shift_pixels]
    thetas = random_theta(strengths, limits, config.elastic_pixels, config.control_points, generator)  # (N, 2, 3 + P)
    # Each rank trains on its shard of each batch. As the sampler gives whole shards, the loader indexes once per shard.
    batches = order.to(all_labels.device).split(config.batch_size)
    shards = [batch.tensor_split(world_size())[rank()] for batch in batches]
    distorted = TensorDataset(all_images, all_labels, thetas.to(all_labels.device))
    loader = DataLoader(distorted, batch_size=None, sampler=shards)

    model.train()
    sums = torch.zeros(2, device=all_labels.device)  # loss and correct predictions; no step waits for the device
    bar = tqdm(loader, f"epoch {epoch}", leave=False, disable=rank() > 0 or not shows_progress())
    for number, (images, labels, theta) in enumerate(bar):
        step = (epoch - 1) * len(batches) + number  # within the run, from 0
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at((step + 0.5) / (config.epochs * len(batches)), config)  # never 0
        images = to_float(images)  # (B, 28, 28) uint8 -> (B, 1, 28, 28) in [0, 1]
        if config.augment:
            images = warp(images, theta)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=config.amp):
            logits = ddp_model(images)  # (B, 10)
            loss = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=config.label_smoothing)
        optimizer.zero_grad()
        # DDP averages over ranks; this factor gives the mean over the batch, even if shards differ in size.
        (loss * world_size() / len(batches[number])).backward()
        optimizer.step()
        # At first the decay is low, as the first weights are poor.
        update_average(average, model, min(config.ema_decay, (1 + step) / (config.ema_ramp + step)))
        sums[0] += loss.detach()
        sums[1] += (logits.argmax(dim=1) == labels).sum()
    if world_size() > 1:
        dist.all_reduce(sums)
    return (sums.cpu().double() / len(order)).tolist()


def build(config: TrainConfig, device: torch.device, init: Path | None = None):
    """Return model, average, ddp_model, optimizer. Raises UserError if init, a file of weights, can't be used."""
    torch.manual_seed(config.seed)
    model = DigitCNN().to(device)
    if init:
        load_weights(init, model)
    betas = (config.beta1, config.beta2)  # the learning rate is set at each step
    optimizer = torch.optim.AdamW(model.parameters(), betas=betas, weight_decay=config.weight_decay, fused=True)
    ddp_model = DistributedDataParallel(model) if world_size() > 1 else model
    return model, copy.deepcopy(model), ddp_model, optimizer


def fit(config: TrainConfig, data: Data, folder: Path, init: Path | None = None, checkpoint: dict | None = None):
    """Train, evaluate, save and print each epoch that is not done yet; return the metrics of all epochs.

    A run starts with random weights or those in the file init, or continues from checkpoint, the content of last.pt.
    Raises UserError when a loss is no longer finite, or a file can't be written.
    """
    device = data.train.tensors[0].device
    model, average, ddp_model, optimizer = build(config, device, init)
    check_classes(model, data, checkpoint["dataset"] if checkpoint else {})
    stateful = {"model": model, "averaged_model": average, "optimizer": optimizer}
    run = describe_run(config, data.description, device, init)
    history, best_model, unwritten = [], {}, ""
    if checkpoint:
        restore(checkpoint, run, stateful)
        history, best_model = [EpochMetrics(**row) for row in checkpoint["history"]], checkpoint["best_model"]
        saved = {name: checkpoint.get(name, value) for name, value in run.items()}  # as they were before
        run |= {"init": saved["init"], "seconds": saved["seconds"]}
        unwritten = on_rank_zero(save, folder, saved, history, best_model, stateful)  # a crash may have cut this short
    if rank() == 0:
        print("\n".join([table_heading(), *map(table_row, history)]), flush=True)
    saved_epochs = len(history)
    try:
        for epoch in range(saved_epochs + 1, config.epochs + 1):
            started = time.perf_counter()
            loss, accuracy = train_one_epoch(model, average, ddp_model, optimizer, data.train, config, epoch)
            train_seconds = time.perf_counter() - started
            validation, test = evaluate(average, data.validation), evaluate(average, data.test)  # on every rank
            held_out = [validation.loss, validation.accuracy] if validation.images else [None, None]
            rate = optimizer.param_groups[0]["lr"]
            row: list = [epoch, rate, loss, accuracy, *held_out, test.loss, test.accuracy, train_seconds]
            if not all(math.isfinite(value) for value in row if value is not None):
                raise UserError(f"the loss became infinite or NaN in epoch {epoch}: try a smaller --learning-rate")
            history.append(EpochMetrics(*row))
            if best_epoch(history).epoch == epoch:
                best_model = copy.deepcopy(average.state_dict())
            run["seconds"] = round(run["seconds"] + time.perf_counter() - started, 2)
            if epoch == 1:
                on_rank_zero(archive, folder)  # the files of an earlier run
            unwritten = on_rank_zero(save, folder, run, history, best_model, stateful)
            saved_epochs = epoch
            if rank() == 0:
                print(table_row(history[-1]), flush=True)
                print(f"warning: {unwritten}\n" if unwritten else "", end="", file=sys.stderr)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"--resume continues the run in {folder}",) if saved_epochs else ()
        raise
    if unwritten:
        raise UserError(f"{unwritten}; then run the same command with --resume to write what is missing")
    return history


@command
def main(argv: list[str] | None = None) -> None:
    args, given = parse_arguments(argv)
    folder, device = args.output_dir, choose_device(args.device)
    torch.backends.cudnn.deterministic = True  # the same seed gives the same bits
    with process_group(), ExitStack() as stack:
        on_rank_zero(stack.enter_context, lock(folder))  # held until the end, so that only one run writes to the folder
        checkpoint = on_rank_zero(find_run, folder, given, args.init) if args.resume else None
        recipe = checkpoint["config"] if checkpoint else {"dataset": "auto", **given}
        name, warning = on_rank_zero(choose_dataset, recipe["dataset"], args.data_dir)
        config = TrainConfig(**recipe | {"dataset": name})
        data = load_data(config, args.data_dir, device)
        warning = data.warning if given.get("dataset") == name else warning + data.warning  # if chosen, none
        if rank() == 0:
            if checkpoint:
                state = "is finished" if checkpoint["epoch"] == config.epochs else "is being resumed"
                print(f"The run in {folder} {state}: {checkpoint['epoch']} of {config.epochs} epochs are done.")
            elif args.resume:
                print(f"There is no run in {folder} to resume: starting a new one.")
            print(warning, end="", file=sys.stderr, flush=True)
            counts = ", ".join(f"{count:,} {split}" for split, count in data.description["images"].items())
            machine = f"device {device}, processes {world_size()}, threads {torch.get_num_threads()}"
            print(f"{name}: {counts} images; {machine}, seed {config.seed}")
        history = fit(config, data, folder, None if checkpoint else args.init, checkpoint)
        if rank() == 0:
            seconds = sum(epoch.train_seconds for epoch in history)
            print(f"\nIn {folder}: {describe_best([history])}; training took {seconds:.1f} s", flush=True)
            print(warning, end="", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
