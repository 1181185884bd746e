"""Sealed files: tensors in safetensors, and in its metadata one JSON text that begins with the file's own digest.

The digest is XXH3-128 of the whole file, read with zeros in the digest's place. It finds accidents: a flipped bit, a file cut short, files
mixed up. XXH3 reads as fast as memory does (20 GB/s on one core; BLAKE2b: 0.9), so a file that is read whole is always checked. Nobody is
vouched for by it: whoever alters a file can write the digest anew. A file's statements are therefore held to a schema as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import xxhash
from safetensors.torch import save_file
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.files import atomic_write, is_file

TEXT = "sbirlib"  # the metadata's only key
KEY = "xxh3"  # the text's first key
ZEROS = "0" * 32
MARK = f'"{TEXT}":"{{\\"{KEY}\\":\\"'.encode()  # before the digest; nowhere else, for elsewhere in the header quotes are escaped
MAX_HEADER = 100_000_000  # bytes: the limit of safetensors itself
BLOCK = 2**24  # bytes hashed at once, between which Ctrl-C is heard


@dataclass(frozen=True)
class Stamp:
    """Length in bytes and digest of a file, as a manifest names it; `place` is where the digest stands in the file."""

    bytes: int
    xxh3: str
    place: int


def write(path: str | Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors, of any shape, their description `about` (as JSON), and the digest, in one atomic write."""
    with atomic_write(path) as partial:
        save_file(dict(tensors), partial, metadata={TEXT: json.dumps({KEY: ZEROS, **about}, separators=(",", ":"))})
        seal(partial)


def seal(path: Path) -> None:
    """Write the digest of a sealed file, as it is now, into its place."""
    place = stamp(path).place
    with open(path, "rb+") as file:
        file.seek(place)
        file.write(digest(path, place).encode())


def stamp(path: Path) -> Stamp:
    """The length and the digest that a file says it has, read from its header alone; an empty digest where it has none."""
    try:
        with open(path, "rb") as file:
            total = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            header = file.read(min(length, MAX_HEADER, total))
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror})") from error
    place = header.find(MARK) + len(MARK)
    if place < len(MARK):
        return Stamp(total, "", 0)
    return Stamp(total, header[place : place + len(ZEROS)].decode("ascii", "replace"), 8 + place)


def digest(path: Path, place: int) -> str:
    """The digest of a file as it is, whose own digest stands at `place`; 0: it holds none."""
    xxh3 = xxhash.xxh3_128()
    with open(path, "rb") as file:
        if place:
            xxh3.update(file.read(place) + ZEROS.encode())
            file.seek(len(ZEROS), os.SEEK_CUR)
        while block := file.read(BLOCK):
            xxh3.update(block)
    return xxh3.hexdigest()


def verify(path: Path) -> None:
    """Raise InputError where the content of a sealed file is not that of its digest; a file of an earlier version, which has none, passes."""
    own = stamp(path)
    if own.xxh3 and digest(path, own.place) != own.xxh3:
        raise damaged(path)


def damaged(path: Path) -> InputError:
    return InputError(f"{str(path)!r} is damaged: its content is not that of its digest; take another copy, or make it again")


def read(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a sealed file, of any shape by name, and its text, "" where it has none; the digest is held against the whole file.

    A file that another process replaces in the meantime is read again, so that tensors and digest are those of one file.
    """
    while True:
        version = _version(path)
        try:
            with opened(path, "pt") as (file, text):
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            verify(path)
        except InputError:
            if _version(path) == version:
                raise
            continue
        if _version(path) == version:
            return tensors, text


def _version(path: Path) -> tuple[int, int] | None:
    """Inode and time of the last write of the file that has this name now; None where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_mtime_ns


@contextmanager
def opened(path: Path, framework: str) -> Iterator[tuple[Any, str]]:
    """The safetensors file, open, and its text; InputError where it is missing, or no whole file of that format."""
    if not is_file(path):
        raise InputError(f"there is no file {str(path)[:500]!r}")
    try:
        with safetensors.safe_open(path, framework=framework) as file:
            metadata: dict[str, str] = file.metadata() or {}
            text, digest = metadata.get(TEXT, ""), stamp(path).xxh3
            if not (text.startswith(f'{{"{KEY}":"{digest}"') if digest else f'"{KEY}"' not in "".join(metadata.values())):
                raise damaged(path)
            yield file, text
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{str(path)!r} is not a whole safetensors file ({error}): sbirlib saves and loads nothing else, and unpickles nothing"
        ) from error
