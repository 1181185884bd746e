"""Start of several processes, as a user's launcher does: torchrun, or these few lines, which start at once.

python -m tests.processes.launch COUNT ARGUMENT ... starts the commands of `run`, and kills the others once one fails.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
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
    """Run to the end, with the output as text; arguments are those of torchrun, and one process is started by itself."""
    several = [sys.executable, "-m", "tests.processes.launch", str(count), *arguments]
    return finished(several if count > 1 else [sys.executable, *arguments], **options)


def torchrun(count: int, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end by torchrun, which ends all processes with the first that fails, and reports it."""
    return finished(command(count, *arguments), **options)


def finished(line: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    settings: dict[str, Any] = {"env": environment(), "cwd": ROOT, "timeout": 900, **options}
    result = subprocess.run(line, capture_output=True, text=True, check=False, **settings)
    own = (line for line in result.stdout.splitlines(keepends=True) if not line.startswith("[Gloo] Rank"))  # torch 2.10 prints these
    result.stdout = "".join(own)
    return result


def main() -> int:
    count, *arguments = sys.argv[1:]
    line = arguments[1:] if arguments[0] == "--no-python" else [sys.executable, *arguments]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        group = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(int(count))]
    processes = [subprocess.Popen(line, env=os.environ | group | place) for place in places]
    while None in (codes := [process.poll() for process in processes]) and not any(codes):
        time.sleep(0.05)
    for process in processes if any(codes) else []:
        process.kill()
    return max(abs(process.wait()) for process in processes)


if __name__ == "__main__":
    sys.exit(main())
