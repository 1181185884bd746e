"""The command line with a fault in one process: an error or a kill, inside a save or a validation, or a disk that is full.

torchrun --nproc-per-node 2 -m tests.processes.faults RANK PLACE CALL HOW train ...
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from sbirlib import cli, pipeline, sealed
from sbirlib.errors import InputError
from sbirlib.processes import launched
from sbirlib.training import run

PLACES: dict[str, list[tuple[Any, str]]] = {  # functions by place, for each rank
    "save": [(sealed, "seal"), (run._Session, "_save")],  # rank 0 has written the tensors, and not yet replaced the file
    "validation": [(pipeline, "encode"), (pipeline, "encode")],
    "disk": [(shutil, "disk_usage"), (shutil, "disk_usage")],
    "metrics": [(pipeline.Pipeline, "_metrics"), (pipeline.Pipeline, "_metrics")],
}


def fail(how: str) -> Any:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "full":
        return SimpleNamespace(free=1000)
    raise InputError("the fault of this test") if how == "refuse" else OSError("the fault of this test")


def faulty(call: Callable[..., Any], number: int, how: str) -> Callable[..., Any]:
    """The function, which fails when it is called for that time."""
    calls: list[None] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == number:
            return fail(how)
        return call(*arguments, **options)

    return counted


def main() -> None:
    rank, place, number, how = sys.argv[1:5]
    del sys.argv[1:5]
    if launched()[0] == int(rank):
        owner, name = PLACES[place][int(rank)]
        setattr(owner, name, faulty(getattr(owner, name), int(number), how))
    cli.main()


if __name__ == "__main__":
    main()
