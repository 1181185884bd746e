"""Folder of a run: held by one run at a time, with room for its checkpoints, of which the last and the best stay."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sbirlib.errors import InputError
from sbirlib.files import atomic_write, held
from sbirlib.training.model import Model

logger = logging.getLogger(__name__)
SAVING, SAVED = "saving %s", "saved %s"  # log messages around each checkpoint
CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"
EARLIER = "checkpoint-{:08d}.safetensors"


@contextmanager
def held_by_this_run(folder: Path, model: Model, copies: int) -> Iterator[None]:
    """Hold a run's folder for the block. Raises InputError where another run holds it, nothing can be written, or the disk has no room.

    Room is needed for `copies` checkpoints of the model with an optimizer's two moments, and one while it is written.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is no folder: choose another out=FOLDER (--out)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.write_bytes(b"0")
        probe.unlink()
    except OSError as error:
        raise InputError(f"nothing can be written in {folder} ({error.strerror}): choose another out=FOLDER (--out)") from error
    needed = (copies + 1) * 3 * sum(value.nbytes for value in model.state_dict().values())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder} has room for {free / 1e9:.2f} GB, and the checkpoints of this run need about {needed / 1e9:.2f} GB: make room, or choose "
            "another out=FOLDER (--out)"
        )
    with held(folder) as own:
        if not own:
            raise InputError(f"another run writes into {folder}: wait for its end, or choose another out=FOLDER (--out)")
        yield


def save_last(folder: Path, write: Callable[[Path], None], step: int, keep: int) -> None:
    """Write the checkpoint of a step, and keep the files of `keep` of them, this one included."""
    path = folder / CHECKPOINT
    logger.debug(SAVING, path)
    write(path)
    logger.debug(SAVED, path)
    if keep < 2:
        return
    copy = folder / EARLIER.format(step)
    copy.unlink(missing_ok=True)
    try:
        os.link(path, copy)  # a checkpoint is replaced, never changed
    except OSError:  # a file system without links, or without room for one
        with atomic_write(copy) as partial:
            shutil.copyfile(path, partial)
    copies = sorted(folder.glob(EARLIER.replace("{:08d}", "*")), key=lambda file: (file.stat().st_mtime_ns, file.name))
    for old in copies[:-keep]:  # by age: of a run that was set back, later steps are older files
        old.unlink(missing_ok=True)
