"""Atomic file writes: a file is written completely, or left as it was."""

from __future__ import annotations

import glob
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from sbirlib.errors import InputError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which replaces `path` when the block ends; on failure the old file is untouched.

    The temporary path lies in a private directory, because some writers (safetensors) create a sibling file that a kill would orphan.
    The file gets the permissions of any new file (0666 less the umask), whatever the writer gave it, so that others may read it.
    """
    target = Path(path)
    directory = target.with_name(f".{target.name}.{os.getpid()}.partial")
    partial = directory / target.name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        partial.chmod(_new_file_mode(directory))
        os.replace(partial, target)
        _sweep(target)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk in its own way
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{str(target)!r} could not be written ({reason}); what stood there before is untouched: make room, or choose another folder"
        ) from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _new_file_mode(directory: Path) -> int:
    """Permissions of a new file in `directory`; os.umask would have to change the umask of the whole process to read it."""
    probe = directory / ".mode"
    probe.touch()
    return stat.S_IMODE(probe.stat().st_mode)


def _sweep(target: Path) -> None:
    """Remove temporary directories of `target` whose process has been killed."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.partial"):
        pid = leftover.name.removesuffix(".partial").rpartition(".")[2]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(leftover, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
