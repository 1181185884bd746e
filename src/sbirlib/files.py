"""Files that are written whole or not at all."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from sbirlib.errors import InputError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once the block has ended; if it fails, what stood there is untouched.

    It lies in a folder of its own, as some writers (safetensors) put a file of theirs beside the one they are given: were the process
    killed, nobody would know whose that is.
    """
    target = Path(path)
    own = target.with_name(f".{target.name}.{os.getpid()}.partial")
    partial = own / target.name
    try:
        own.mkdir(parents=True, exist_ok=True)
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
        _sweep(target)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk in its own way
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{str(target)!r} could not be written ({reason}); what stood there before is untouched: make room, or choose a place where you may write"
        ) from error
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _sweep(target: Path) -> None:
    """Remove what processes that were killed while writing `target` left beside it."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.partial"):
        pid = left.name.removesuffix(".partial").rpartition(".")[2]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
