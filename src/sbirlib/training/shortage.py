"""Shortage of memory in a training step, in words: which setting to lower, and by how much."""

from __future__ import annotations

import re

import torch

from sbirlib.errors import InputError

UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
REQUEST = re.compile(r"tried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)", re.IGNORECASE)
RESERVE = 0.9  # share of the memory that a step may plan to fill


class OutOfMemory(InputError):
    """A training step needs more memory than there is."""


def shortage(error: BaseException, *, phase: int, images: int, chunk: int | None, device: torch.device) -> OutOfMemory | None:
    """The error in words, if it is a lack of memory in a step of so many images, encoded `chunk` at a time; else None."""
    request = REQUEST.search(str(error))
    if not isinstance(error, torch.OutOfMemoryError | MemoryError) and request is None:
        return None
    more_bytes = float(request[1]) * UNITS[request[2]] if request else 0.0
    used, total = _memory(device)
    share = min(RESERVE * total / (used + more_bytes), 0.5) if total and used + more_bytes else 0.5
    fewer = 1 << (max(2, int((chunk or images) * share)).bit_length() - 1)  # a power of two
    size = f"{used / 2**30:.1f} of {total / 2**30:.1f} GiB were in use" if total else "its size is not known"
    more = f", and {more_bytes / 2**30:.2f} more were asked for" if more_bytes else ""
    return OutOfMemory(
        f"no memory left for a step of {images} images ({device}: {size}{more}). Set phases.{phase}.chunk = {fewer}: losses still see all images, "
        f"encoded {fewer} at a time, in about {fewer / (chunk or images):.0%} of the memory. Or lower the sampler's sizes, or transform.size (half "
        'of it takes a quarter), or set precision = "bfloat16"'
    )


def _memory(device: torch.device) -> tuple[float, float]:
    """Bytes in use, and in all; zeros where the system does not say."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total - free, total
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            entries = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in file}
    except (OSError, ValueError, IndexError):
        return 0.0, 0.0
    return entries["MemTotal"] - entries["MemAvailable"], entries["MemTotal"]
