"""Timing helpers: seconds of a call, and the name of the processor."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable

import torch


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def processor() -> str:
    """Model name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), platform.processor())
    except OSError:
        return platform.processor()


def machine() -> dict[str, object]:
    """Processor, its cores and vector instructions, and the backends of torch's products."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "backends": [name for name in ("mkl", "mkldnn", "openmp") if getattr(torch.backends, name).is_available()],
        "torch": torch.__version__,
    }
