"""The choice of a device, and helpers for torch.distributed; without torchrun there is one process, of rank 0."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from common.command_line import UserError


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; for "auto" the accelerator if it works, else the CPU. Raises UserError."""
    local_rank = os.environ.get("LOCAL_RANK")  # with several processes on a machine, each has its own accelerator
    try:
        accelerator = torch.accelerator.current_accelerator(check_available=True) or "cpu"
        device = torch.device(accelerator if name == "auto" else name)
        if local_rank and device.type != "cpu" and device.index is None:
            device = torch.device(device.type, int(local_rank))
            torch.accelerator.set_device_index(device.index)
        torch.zeros(1, device=device).cpu()  # raises if the device can't be used
        return device
    except Exception as error:  # each backend has its own kind
        reason = str(error).splitlines()[0].split(". ")[0][:100]
        if name == "auto" and not local_rank:
            print(f"warning: the accelerator can't be used here ({reason}); the CPU is used", file=sys.stderr)
            return torch.device("cpu")
        advice = "cpu, or start only as many processes as there are accelerators" if name == "auto" else "auto or cpu"
        raise UserError(f"--device {name} can't be used here ({reason}): try --device {advice}") from error


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Under torchrun, connect its processes: by NCCL on GPUs, by Gloo on CPUs."""
    if {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        dist.init_process_group(timeout=timedelta(minutes=10))
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process; the one of rank 0 prints and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def on_rank_zero(function: Callable, *arguments: object) -> Any:
    """Call a function in the process of rank 0 alone; in all of them return its result, or raise its error."""
    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = function(*arguments)
        except Exception as error:
            outcome[1] = error
    if world_size() > 1:
        dist.broadcast_object_list(outcome)
    result, error = outcome
    if error:
        raise error
    return result
