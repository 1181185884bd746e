"""Devices by name."""

from __future__ import annotations

import os

import torch

from sbirlib.errors import InputError
from sbirlib.processes import join, launched


def find_device(name: str | None) -> torch.device:
    """The device of that name, or the GPU if there is one; of several processes each has a GPU of its own, by LOCAL_RANK.

    Raises InputError for a GPU that is not there, and for an unknown name.
    """
    if (name is None and torch.cuda.is_available()) or name == "cuda":
        name = _own_gpu()
    if name is None:
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device = {name!r}: expected 'cpu', 'cuda' or 'cuda:N' ({str(error).splitlines()[0]})") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r} was asked for, but torch finds no GPU of that number: leave it out, or say device='cpu'")
    return device


def joined_device(name: str | None) -> torch.device:
    """The device of that name, see `find_device`, in the group of processes that the launcher asks for."""
    join()
    device = find_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def memory_in_use(device: torch.device) -> int:
    """Bytes: the most that tensors have taken on a GPU, or those of this process in main memory (0 where the system does not say)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _own_gpu() -> str:
    """The GPU of this process, of those that it sees."""
    own, world = launched()
    if world == 1:
        return "cuda"
    local, count = int(os.environ.get("LOCAL_RANK", own)), torch.cuda.device_count()
    if local >= count:
        raise InputError(
            f"process {own} of {world} finds {count} GPUs, and needs one of its own: start {count} processes a machine, or say device='cpu'"
        )
    return f"cuda:{local}"
