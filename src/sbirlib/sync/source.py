"""Sources of photos: size, time of change and digest of the files that their vectors were made of, and the sealed file that keeps them."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Le, MaxLen
from pydantic import TypeAdapter

from sbirlib import sealed
from sbirlib.documents import Count, read_json
from sbirlib.errors import InputError
from sbirlib.retrieval.indexes.manifest import Hex

STEM = "sources"  # of the file's name
UNSETTLED = -1  # in the place of a time
SETTLED = 2 * 10**9  # nanoseconds after which a later change has another time: the coarsest clock of a file system


class Source(NamedTuple):
    """A photo's file as its vector knows it: size in bytes, time of change in nanoseconds, digest of the content; and its category.

    The time is UNSETTLED where the file had changed just before, so that a change just after may have the same time.
    """

    bytes: Count
    modified: Annotated[int, Ge(UNSETTLED), Le(2**63)]
    xxh3: Hex
    category: Annotated[str, MaxLen(4096)] = ""


SOURCES: TypeAdapter[dict[str, Source]] = TypeAdapter(dict[str, Source])


def source_of(path: str, category: str = "") -> Source | None:
    """The source of a photo, whose whole file is read; None where there is no such file, or it cannot be read.

    Its size and time are those before it was read: a change meanwhile shows as one later.
    """
    if (place := look_at(path)) is None:
        return None
    try:
        return Source(*place, sealed.digest(Path(path), 0), category)
    except OSError:
        return None


def look_at(path: str) -> tuple[int, int] | None:
    """Size in bytes and time of change of a file, without reading it; None where there is none."""
    try:
        place = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(place.st_mode):
        return None
    settled = time.time_ns() - place.st_mtime_ns > SETTLED and place.st_mtime_ns >= 0
    return place.st_size, place.st_mtime_ns if settled else UNSETTLED


def write_sources(path: Path, sources: Mapping[str, Source]) -> None:
    """Write the sources of photos, by path, as one sealed file."""
    text = json.dumps(sources, separators=(",", ":")).encode()
    sealed.write(path, {STEM: torch.from_numpy(np.frombuffer(text, dtype=np.uint8).copy())}, {})


def read_sources(path: Path) -> dict[str, Source]:
    """The sources of photos, by path, that `write_sources` wrote; held to their digest and their types."""
    tensors, _ = sealed.read(path)
    if tensors.keys() != {STEM} or tensors[STEM].dtype != torch.uint8:
        raise InputError(f"{str(path)!r} is damaged: it holds no sources of photos; index the photos again")
    return read_json(tensors[STEM].numpy().tobytes(), SOURCES, repr(str(path)))
