"""The device that a run computes on."""

import contextlib
import ctypes
import os

import torch

from common.command_line import UserError


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; for "auto" the machine's accelerator, or its CPU. Raises UserError.

    Each of the processes that torchrun starts on a machine gets an accelerator of its own.
    """
    try:
        if name == "auto":
            has_accelerator = torch.accelerator.is_available()
            device = torch.accelerator.current_accelerator() if has_accelerator else torch.device("cpu")
        else:
            device = torch.device(name)
        if device.type != "cpu" and device.index is None and "LOCAL_RANK" in os.environ:
            device = torch.device(device.type, int(os.environ["LOCAL_RANK"]))
        torch.zeros(1, device=device).cpu()
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # streams and graphs belong to the current device
    except Exception as error:  # each backend has its own kind
        reason = str(error).splitlines()[0].split(". ")[0][:100]
        raise UserError(f"--device {name} can't be used here ({reason}): try --device auto or cpu") from error
    return device


def keep_freed_memory() -> None:
    """Have the C library keep what a training step frees for the next step, instead of giving it back to the system.

    Getting it back costs a page fault for each 4 KiB: up to a million of them in an epoch. Does nothing where the C
    library is not glibc.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3  # of malloc.h
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(m_trim_threshold, 512 * 2**20)
        mallopt(m_mmap_threshold, 32 * 2**20)
