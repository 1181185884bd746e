"""Digests written anew, as a stranger could who alters a file."""

from __future__ import annotations

import itertools
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from tests.fuzz.operations import tensors

from sbirlib import documents, sealed
from sbirlib.data.packed import layout
from sbirlib.data.packed.layout import SUFFIX

MANIFEST = "index.json"


def reseal(folder: Path) -> None:
    """Write the digest of every sealed file in the folder anew, then those of manifests and lines, which name them."""
    for path in sorted(folder.rglob("*.safetensors")):
        if path.is_file() and sealed.stamp(path).xxh3:
            with suppress(Exception):  # what is no whole file any more has no place for a digest
                _reseal_records(path)
            with suppress(ValueError, OSError):
                sealed.seal(path)
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        with suppress(Exception):
            _reseal_pack(path)
    for path in sorted(folder.rglob(MANIFEST)):
        if path.is_file():
            path.write_bytes(_resealed(path.read_bytes(), path.parent))
    for path in sorted(folder.rglob("*.jsonl")):
        if path.is_file():
            path.write_bytes(b"\n".join(_resealed(line, None) for line in path.read_bytes().split(b"\n")))


def _reseal_records(path: Path) -> None:
    """Write the digest of a shard's records anew."""
    texts, entries = tensors.read(path.read_bytes())
    records = next((entry for entry in entries if entry.name == "records"), None)
    about = json.loads(texts["sbirlib"])
    if records is not None and "records" in about:
        about["records"] = xxhash.xxh3_128_hexdigest(records.data)
        path.write_bytes(tensors.written({**texts, "sbirlib": json.dumps(about, separators=(",", ":"))}, entries))


def _reseal_pack(path: Path) -> None:
    """Write the digests of a packed dataset anew, and the header that belongs to its tensors: of images, of the index, of the file."""
    texts, entries = tensors.read(path.read_bytes())
    data = {entry.name: entry.data for entry in entries}
    images, starts = len(data["form"]), np.frombuffer(data["image_starts"], "<i8")
    data["digest"] = b"".join(xxhash.xxh3_128_digest(data["data"][a:b]) for a, b in itertools.pairwise(starts.tolist()))[: 16 * images]
    index = b"".join(data[name] for name in layout.COLUMNS)
    counts = layout.Counts(
        xxh3=sealed.ZEROS,
        packed=json.loads(texts["sbirlib"])["packed"],
        images=images,
        data_bytes=len(data["data"]),
        key_bytes=len(data["keys"]),
        about_bytes=len(data["about"]),
        index=xxhash.xxh3_128_hexdigest(index),
    )
    path.write_bytes(layout.header(counts) + data["data"] + index)
    sealed.seal(path)


def _resealed(text: bytes, folder: Path | None) -> bytes:
    """A JSON object with its digest and those of the files that it names; any other text as it is."""
    with suppress(ValueError, RecursionError, TypeError, OSError):
        content: dict[str, Any] = json.loads(text)
        if not isinstance(content, dict) or documents.KEY not in content:
            return text
        files = content.get("files")
        if folder is not None and isinstance(files, dict):
            content["files"] = {name: _entry(folder, name, entry) for name, entry in files.items()}
        return json.dumps(documents.with_digest(content), separators=(",", ":")).encode()
    return text


def _entry(folder: Path, name: str, entry: Any) -> Any:
    """Length and digest of a file as they are now; an entry of another shape, or of a file elsewhere, as it is."""
    path = folder / name
    if not isinstance(entry, dict) or set(entry) != {"bytes", "xxh3"} or path.parent != folder or not path.is_file():
        return entry
    stamp = sealed.stamp(path)
    return {"bytes": stamp.bytes, "xxh3": stamp.xxh3 or sealed.digest(path, 0)}
