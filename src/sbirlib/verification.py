"""Verification: every file of an index, a run or a folder of vectors, read whole and held against its digest."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from sbirlib import sealed
from sbirlib.data.packed import packed
from sbirlib.data.packed.layout import SUFFIX
from sbirlib.errors import InputError
from sbirlib.progress import track
from sbirlib.retrieval.indexes.manifest import MANIFEST, OtherFormat, check_file, read_manifest

State = Literal["whole", "damaged", "no digest"]


@dataclass(frozen=True)
class Finding:
    """One file with its state, and the cause where it is damaged."""

    path: Path
    state: State
    cause: str = ""


def verify(path: str | Path) -> list[Finding]:
    """Read every file of an index, of a run, of a folder of vectors, of packed datasets, or one file, and hold it against its digest.

    Folders are searched at any depth. A file that an earlier version or another program wrote has no digest. Raises InputError where there
    is nothing that could be verified, and for an index of another format.

    >>> [finding.state for finding in verify("runs/mathm")]
    ['whole', 'whole']
    """
    place = Path(path)
    if place.name == MANIFEST:
        place = place.parent
    checks = _of_index(place) if (place / MANIFEST).is_file() else _of_files(place)
    return [_finding(file, check) for file, check in track(checks, total=len(checks), label="verifying")]


def _of_index(place: Path) -> list[tuple[Path, Callable[[], bool]]]:
    try:
        manifest = read_manifest(place)
    except OtherFormat:
        raise
    except InputError as error:
        return [(place / MANIFEST, partial(_refuse, error))]
    files = manifest.files.items()
    return [
        (place / MANIFEST, lambda: True),
        *((place / name, partial(check_file, place / name, entry, whole=True)) for name, entry in files),
    ]


def _of_files(place: Path) -> list[tuple[Path, Callable[[], bool]]]:
    if not place.exists():
        raise InputError(f"{place} does not exist: give the path of an index, a run, a folder of vectors, or one file of these")
    kinds = {".safetensors": _sealed, SUFFIX: _packed}
    files = [place] if place.is_file() and place.suffix in kinds else sorted(file for kind in kinds for file in place.rglob(f"*{kind}"))
    if not files:
        raise InputError(
            f"{place} is or holds no index, model, vectors or packed dataset, so there is nothing to verify: give the path of one"
        )
    return [(file, partial(kinds[file.suffix], file)) for file in files]


def _sealed(path: Path) -> bool:
    """Whether a file has a digest; InputError where its content is not of it."""
    with sealed.opened(path, "np"):
        pass
    sealed.verify(path)
    return bool(sealed.stamp(path).xxh3)


def _packed(path: Path) -> bool:
    """True; InputError where a packed dataset is damaged."""
    packed(path, max_pixels=sys.maxsize)
    sealed.verify(path)
    return True


def _refuse(error: InputError) -> bool:
    raise error


def _finding(path: Path, check: Callable[[], bool]) -> Finding:
    try:
        return Finding(path, "whole") if check() else Finding(path, "no digest", "by an earlier version, or by another program")
    except InputError as error:
        return Finding(path, "damaged", str(error))
