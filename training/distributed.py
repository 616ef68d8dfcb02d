"""The device of this process, and the processes that torchrun starts; without it there is one, of rank 0."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from common.command_line import UserError


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; for "auto" the accelerator if it works, else the CPU. Raises UserError.

    Each of several processes on a machine has an accelerator of its own.
    """
    try:
        accelerator = torch.accelerator.current_accelerator(check_available=True) or "cpu"
        device = torch.device(accelerator if name == "auto" else name)
        if device.type != "cpu" and device.index is None and "LOCAL_RANK" in os.environ:  # each process has its own
            device = torch.device(device.type, int(os.environ["LOCAL_RANK"]))
            torch.accelerator.set_device_index(device.index)
        torch.zeros(1, device=device).cpu()
        return device
    except Exception as error:  # each backend has its own kind
        reason = str(error).splitlines()[0].split(". ")[0][:100]
        if name != "auto" or "LOCAL_RANK" in os.environ:
            advice = "auto or cpu" if name != "auto" else "cpu, or as many processes as there are accelerators"
            raise UserError(f"--device {name} can't be used here ({reason}): try --device {advice}") from error
        print(f"warning: the accelerator can't be used here ({reason}); the CPU is used", file=sys.stderr)
        return torch.device("cpu")


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started, if it did. Raises UserError when another process has ended."""
    try:
        if {"RANK", "WORLD_SIZE"} <= os.environ.keys():  # torchrun sets both
            dist.init_process_group(timeout=timedelta(minutes=10))  # NCCL on GPUs, Gloo on CPUs
        yield
        if dist.is_initialized():
            dist.destroy_process_group()
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise  # an error of something else
        raise UserError("another process has ended: start all again with --resume") from error


def rank() -> int:
    """Return the number of this process; the one of rank 0 prints and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Replace the tensor of each process, in place, by the sum over all of them."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def broadcast_from_rank_zero(function: Callable, *arguments: object) -> object:
    """Call the function in the process of rank 0, and return its result in all."""
    result = [function(*arguments) if rank() == 0 else None]
    if dist.is_initialized():
        dist.broadcast_object_list(result)
    return result[0]
