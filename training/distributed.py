"""The device of this process, and several processes that train as one, as torchrun starts them.

Without torchrun there is one process, of rank 0 in a world of size 1, and nothing is communicated.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from common.command_line import UserError

TIMEOUT = timedelta(minutes=10)  # how long to wait for another process, as when the network is lost

T = TypeVar("T")


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; for "auto" the machine's accelerator if it works, or its CPU. Raises UserError.

    Each of the processes that torchrun starts on a machine gets an accelerator of its own.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        try:
            return choose_device(accelerator.type)
        except UserError as error:  # a GPU that this PyTorch has no code for, for instance
            print(f"warning: {error}; the CPU is used", file=sys.stderr)
            return torch.device("cpu")
    try:
        device = torch.device(name)
        if device.type != "cpu" and device.index is None and "LOCAL_RANK" in os.environ:
            device = torch.device(device.type, int(os.environ["LOCAL_RANK"]))
            torch.accelerator.set_device_index(device.index)
        torch.zeros(1, device=device).cpu()
    except Exception as error:  # each backend has its own kind
        reason = str(error).splitlines()[0].split(". ")[0][:100]
        raise UserError(f"--device {name} can't be used here ({reason}): try --device auto or cpu") from error
    return device


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started, if it did: with NCCL on GPUs, with Gloo on CPUs.

    Raises UserError when another process has ended.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():  # torchrun sets both
        yield
        return
    try:
        dist.init_process_group(timeout=TIMEOUT)
        yield
        dist.destroy_process_group()
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise  # an error of something else
        reason = str(error).splitlines()[0].split(". ")[0]
        raise UserError(f"another process has ended ({reason}): start all again with --resume") from error


def rank() -> int:
    """Return the number of this process; the one of rank 0 prints and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def shard(batch: Tensor) -> Tensor:
    """Return this process's part of a batch, (B, ...); two processes' parts differ by one at most, and may be empty."""
    return batch.tensor_split(world_size())[rank()]


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Replace the tensor of each process, in place, by the sum over all of them."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def broadcast_from_rank_zero(function: Callable[..., T], *arguments) -> T:
    """Call the function in the process of rank 0, and return its result in all."""
    result = [function(*arguments) if rank() == 0 else None]
    if dist.is_initialized():
        dist.broadcast_object_list(result)
    return result[0]
