"""Several processes that train as one, as torchrun starts them. For one that is alone, nothing here does anything."""

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from common.command_line import UserError, is_first_here

TIMEOUT = timedelta(minutes=10)  # for another process's answer; one that dies is noticed at once, a lost network isn't

T = TypeVar("T")


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started, if it did. Raises UserError when another one has gone."""
    if "MASTER_ADDR" not in os.environ:
        yield
        return
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
        yield
        dist.destroy_process_group()
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise  # a failure of something else
        reason = str(error).splitlines()[0].split(". ")[0]
        raise UserError(
            f"process {os.environ['RANK']} can't go on without another one: start all again with --resume ({reason})"
        ) from error


def rank() -> int:
    """Return the number of this process; the first, 0, is the one that prints and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def share(batch: Tensor) -> Tensor:
    """Return this process's part of a batch; the parts of two processes differ by one at most, and may be empty."""
    return batch.tensor_split(processes())[rank()]


def total(tensor: Tensor) -> Tensor:
    """Return the sum over all processes, in the place of the tensor of each."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def from_first(function: Callable[..., T], *arguments) -> T:
    """Call the function in the first process, and return its result in all."""
    result = [function(*arguments) if rank() == 0 else None]
    if dist.is_initialized():
        dist.broadcast_object_list(result)
    return result[0]


@contextlib.contextmanager
def first_here() -> Iterator[None]:
    """Let one process of each machine through the context before the others."""
    if dist.is_initialized() and not is_first_here():
        dist.barrier()
    yield
    if dist.is_initialized() and is_first_here():
        dist.barrier()


def replicate(model: nn.Module) -> nn.Module:
    """Return the model such that backward gives each process the mean of all processes' gradients."""
    return nn.parallel.DistributedDataParallel(model) if dist.is_initialized() else model
