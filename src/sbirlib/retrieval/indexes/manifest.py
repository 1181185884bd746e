"""The manifest of a saved index: its kind and state, and the length and digest of every file that it consists of."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MaxLen
from pydantic import StringConstraints, TypeAdapter

from sbirlib import sealed
from sbirlib.documents import Count, Schema, check_digest, read_json, read_text, with_digest
from sbirlib.errors import InputError
from sbirlib.files import atomic_write

FORMAT = 4
UPGRADED = 3  # the one earlier format that can be converted
MANIFEST = "index.json"
SMALL = 2**28  # bytes of an index that is verified whenever it is opened: a few hundredths of a second

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,200}$")]  # never leads out of the folder
Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Word = Annotated[str, MaxLen(1000)]


class OtherFormat(InputError):
    """An index of another format than the present one."""


class Entry(Schema):
    """Length in bytes and digest of a file."""

    bytes: Count
    xxh3: Hex


class Manifest(Schema):
    """A saved index; `encoder` is the digest of the encoder, whose file is `model`."""

    format: int
    kind: Word
    state: dict[str, Any]
    files: dict[FileName, Entry]
    encoder: Word | None = None
    model: FileName | None = None
    xxh3: Hex


SCHEMA, ANY = TypeAdapter(Manifest), TypeAdapter(dict[str, Any])


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of a saved index; InputError where it is none, is damaged, or is of another format."""
    return manifest_of(text_of(Path(folder)), folder)


def manifest_of(text: str | None, folder: str | Path) -> Manifest:
    """The manifest of a folder from its text, None where there is none; see `read_manifest`."""
    if text is None:
        raise InputError(f"{folder} is not an index: it holds no {MANIFEST}; make one with `sbirlib index MODEL PHOTOS --out FOLDER`")
    where = repr(str(Path(folder) / MANIFEST))
    _check_format(read_json(text, ANY, where).get("format"), folder, where)
    manifest = read_json(text, SCHEMA, where)
    check_digest(json.loads(text), where)
    if manifest.model is not None and manifest.model not in manifest.files:
        raise InputError(f"{where} is damaged: its model {manifest.model} is none of its files")
    return manifest


def write_manifest(folder: Path, content: Mapping[str, Any], files: Collection[str]) -> str:
    """Write the manifest over these files in one atomic write; return its text."""
    stamps = {name: stamp_of(folder / name) for name in files}
    entries = {name: {"bytes": stamp.bytes, "xxh3": stamp.xxh3} for name, stamp in stamps.items()}
    text = json.dumps(with_digest({"format": FORMAT, **content, "files": entries}), indent=1)
    with atomic_write(folder / MANIFEST) as partial:
        partial.write_text(text, encoding="utf-8")
    return text


def check_files(folder: Path, manifest: Manifest, *, verify: bool | None = None) -> None:
    """Raise InputError for a file that is missing, a link, of another length or with another digest than the manifest says.

    The digest in a file's own header is compared. With `verify`, or where the index is small, its content is read and held
    against that digest too; `verify=False` never does.
    """
    whole = sum(entry.bytes for entry in manifest.files.values()) <= SMALL if verify is None else verify
    for name, entry in manifest.files.items():
        check_file(folder / name, entry, whole=whole)


def check_file(path: Path, entry: Entry, *, whole: bool) -> bool:
    """Raise InputError where a file is not the one of this entry, whose content is read where `whole`; True otherwise."""
    if path.is_symlink() or not path.is_file():
        raise InputError(
            f"there is no file {str(path)!r}, which the index needs, or it is a link: put the file itself there, or index the photos again"
        )
    size, stamp = path.stat().st_size, sealed.stamp(path)
    if size != entry.bytes:
        raise InputError(
            f"{str(path)!r} is damaged: it has {size} bytes, and had {entry.bytes}; take another copy, or index the photos again"
        )
    content = sealed.digest(path, stamp.place) if whole or not stamp.xxh3 else stamp.xxh3
    if content != entry.xxh3 or stamp.xxh3 not in ("", entry.xxh3):
        raise InputError(f"{str(path)!r} is damaged: its content is not that of its digest; take another copy, or index the photos again")
    return True


def stamp_of(path: Path) -> sealed.Stamp:
    """The length and digest of a file, sealed or not."""
    stamp = sealed.stamp(path)
    return stamp if stamp.xxh3 else sealed.Stamp(stamp.bytes, sealed.digest(path, 0), 0)


def text_of(folder: Path) -> str | None:
    """The text of the manifest in a folder; None where there is none."""
    path = folder / MANIFEST
    return read_text(path) if path.is_file() else None


def _check_format(version: Any, folder: str | Path, where: str) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise InputError(f"{where} is damaged: format = {str(version)[:80]!r}; take another copy, or index the photos again")
    if version > FORMAT:
        raise OtherFormat(
            f"{folder} is an index of format {version}, by a newer version of sbirlib; this one reads {FORMAT}: upgrade sbirlib"
        )
    if version == UPGRADED:
        raise OtherFormat(
            f"{folder} is an index of format {version}, by an earlier version of sbirlib: `sbirlib upgrade {folder}` rewrites it"
        )
    if version < FORMAT:
        raise OtherFormat(f"{folder} is an index of format {version}, this version of sbirlib reads {FORMAT}: index the photos again")
