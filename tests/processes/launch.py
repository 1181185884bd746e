"""Start of several processes, as a user's launcher does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def command(count: int, *arguments: str) -> list[str]:
    """Command line of torchrun for `count` processes, on a port of its own."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), *arguments]


def environment() -> dict[str, str]:
    """Variables of a process that is started from a terminal, with the commands of this environment on its path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    return inherited | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(count: int, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end, with the output as text; a single process is started without torchrun."""
    line = command(count, *arguments) if count > 1 else [sys.executable, *arguments]
    settings: dict[str, Any] = {"env": environment(), "cwd": ROOT, "timeout": 900, **options}
    return subprocess.run(line, capture_output=True, text=True, check=False, **settings)
