"""Atomic file writes: a file is written completely, or left as it was; and a lock among processes."""

from __future__ import annotations

import glob
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from sbirlib.errors import InputError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which replaces `path` when the block ends; on failure the old file is untouched.

    The temporary path lies in a private directory of a name that nobody can guess and put a link under; some writers (safetensors)
    create a sibling file there, which a kill would orphan elsewhere. The file gets the permissions of any new file (0666 less the umask),
    whatever the writer gave it, so that others may read it.
    """
    target = Path(path)
    directory: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", suffix=".partial", dir=target.parent))
        partial = directory / target.name
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
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


def user_cache() -> Path:
    """The folder of sbirlib in the user's cache folder (XDG_CACHE_HOME)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sbirlib"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process holds the folder, and hold it to the end of the block, or of the process.

    Where the file system locks no folders (some network ones), or the system has no such locks (Windows), nothing is held.
    """
    with _descriptor(folder) as descriptor:
        if not _hold(descriptor, folder):
            logger.info("waiting for another process, which saves into %s", folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold the folder to the end of the block, or of the process; yield False where another process holds it. See `locked`."""
    with _descriptor(folder) as descriptor:
        yield _hold(descriptor, folder)


def is_file(path: str | Path) -> bool:
    """Whether there is a file; a path that no file system takes, too long or with a NUL, is none."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


@contextmanager
def _descriptor(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY) if fcntl is not None else -1
    try:
        yield descriptor
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _hold(descriptor: int, folder: Path) -> bool:
    """Lock an open folder; False where another process holds it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        logger.debug("%s cannot be locked (%s)", folder, error)
    return True


def _new_file_mode(directory: Path) -> int:
    """Permissions of a new file in `directory`; os.umask would have to change the umask of the whole process to read it."""
    probe = directory / ".mode"
    probe.touch()
    return stat.S_IMODE(probe.stat().st_mode)


def _sweep(target: Path) -> None:
    """Remove temporary directories of `target` whose process has been killed."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.partial"):
        pid = leftover.name.removeprefix(f".{target.name}.").partition(".")[0]
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
