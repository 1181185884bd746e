"""Processes of one run: the group that torchrun or another launcher asks for, and exchanges among its members."""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sbirlib.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor  # imported where a group is: the command line starts without torch

T = TypeVar("T")
logger = logging.getLogger(__name__)
PATIENCE = timedelta(minutes=30)  # of an exchange: rank 0 may save or draw meanwhile; a process that ends is noticed at once
LOST = ("Connection", "Broken pipe")  # in gloo's message about a process that has ended
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # torchrun's variable: the file whose message ends its report
GRACE = 20.0  # seconds for the launcher to end the processes that have not failed themselves; an interpreter with torch takes some to end


def world_size() -> int:
    """Number of processes in the group; 1 without one."""
    if "torch.distributed" not in sys.modules:
        return 1
    from torch import distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process in the group, from 0."""
    if world_size() == 1:
        return 0
    from torch import distributed as dist

    return dist.get_rank()


def launched() -> tuple[int, int]:
    """Rank and number of processes as the launcher's variables RANK and WORLD_SIZE give them, (0, 1) without a launcher.

    Raises InputError for values that are no such numbers.
    """
    texts = {name: os.environ.get(name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))}
    own, world = (int(text) if text.isdecimal() else -1 for text in texts.values())
    if not 0 <= own < world:
        settings = ", ".join(f"{name}={text!r}" for name, text in texts.items())
        raise InputError(f"{settings}: expected a rank from 0 to WORLD_SIZE - 1. Start several processes with torchrun --nproc-per-node N")
    return own, world


def join() -> None:
    """Start the group that the launcher asks for; a group that runs already is used as it is.

    Tensors on GPUs are exchanged by NCCL, those on the CPU by gloo. The group ends with the process. Raises InputError where it cannot be started.
    """
    own, world = launched()
    if world == 1:
        return
    import torch
    from torch import distributed as dist

    if not dist.is_available():
        raise InputError(f"WORLD_SIZE={world} asks for a group of processes, and this build of torch has none: start one process")
    if dist.is_initialized():
        return
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise InputError(f"WORLD_SIZE={world} asks for a group of processes, without {' and '.join(missing)}: start it with torchrun")
    import torch.distributed.nn.functional  # imported later, its default arguments keep the group and its threads past leave()

    try:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, rank=own, world_size=world, timeout=PATIENCE)
    except Exception as error:  # of the network, of the backend
        raise InputError(f"process {own} of {world} cannot join the group ({str(error).splitlines()[0]}): check the launcher") from error
    atexit.register(leave)
    if own == 0:
        logger.info("%d processes (%s)", world, backend)


def leave() -> None:
    """End the group, if there is one."""
    if world_size() > 1:
        from torch import distributed as dist

        dist.destroy_process_group()


def leave_together() -> None:
    """End the group once all processes are done, so that none loses another while it ends."""
    if world_size() > 1:
        wait()
        leave()


def first_to_fail() -> bool:
    """Whether this process is the first of its group to end in an error, so that it is the one that says it."""
    if world_size() == 1:
        return True
    from torch import distributed as dist

    try:
        return bool(dist.distributed_c10d._get_default_store().add("sbirlib/failed", 1) == 1)
    except RuntimeError:  # the store has ended with its process
        return False


def fail(error: BaseException, text: str) -> None:
    """Say an error on stderr, as the first process of its group to fail, and to torchrun, whose own report then ends with it.

    A process that fails after the first, or for want of another that has ended, leaves the launcher time to end it, so that the launcher's
    report names the first alone.
    """
    first, alone = first_to_fail(), not lost(error)
    if first:
        stderr = sys.__stderr__ if rank() else sys.stderr  # `sys.stderr` of other ranks may be silenced
        print(f"{text}\n", file=stderr, end="", flush=True)  # in one write, which other processes do not split
    if first and alone:
        _tell_torchrun(text)
    elif world_size() > 1:
        time.sleep(GRACE)


def _tell_torchrun(text: str) -> None:
    if path := os.environ.get(ERROR_FILE):
        about = {"message": text, "extraInfo": {"py_callstack": text, "timestamp": str(int(time.time()))}}
        Path(path).write_text(json.dumps({"message": about}), encoding="utf-8")


def lost(error: BaseException) -> bool:
    """Whether an error tells of another process that has ended."""
    return world_size() > 1 and isinstance(error, RuntimeError) and any(text in str(error) for text in LOST)


def mean(values: Tensor) -> Tensor:
    """Mean of a tensor of any shape over processes."""
    if world_size() == 1:
        return values
    from torch import distributed as dist

    total = values.clone()
    dist.all_reduce(total)
    return total / world_size()


def everyone(value: Any) -> list[Any]:
    """The values, which pickle takes, of all processes in rank order."""
    values: list[Any] = [value] * world_size()
    if world_size() > 1:
        from torch import distributed as dist

        dist.all_gather_object(values, value)
    return values


def from_first(value: Any) -> Any:
    """The value of rank 0, which pickle takes."""
    values = [value]
    if world_size() > 1:
        from torch import distributed as dist

        dist.broadcast_object_list(values, src=0)
    return values[0]


def largest(values: list[int]) -> list[int]:
    """The largest of each of some numbers over processes."""
    if world_size() == 1:
        return values
    import torch
    from torch import distributed as dist

    numbers = torch.tensor(values)
    dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
    return [int(number) for number in numbers.tolist()]


def on_first(call: Callable[[], T]) -> T:
    """The result of a call that rank 0 alone makes, or its InputError, in every process."""
    result: tuple[Any, str] = (None, "")
    if rank() == 0:
        try:
            result = call(), ""
        except InputError as error:
            if world_size() == 1:
                raise
            result = None, str(error)
    value, fault = from_first(result)
    if fault:
        raise InputError(fault)
    return value  # type: ignore[no-any-return]


def wait() -> None:
    """Wait for all processes."""
    everyone(None)
