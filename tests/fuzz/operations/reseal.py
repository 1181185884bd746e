"""Digests written anew, as a stranger could who alters a file."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import xxhash
from tests.fuzz.operations import tensors

from sbirlib import documents, sealed

MANIFEST = "index.json"


def reseal(folder: Path) -> None:
    """Write the digest of every sealed file in the folder anew, then those of manifests and lines, which name them."""
    for path in sorted(folder.rglob("*.safetensors")):
        if path.is_file() and sealed.stamp(path).xxh3:
            with suppress(Exception):  # what is no whole file any more has no place for a digest
                _reseal_records(path)
            with suppress(ValueError, OSError):
                sealed.seal(path)
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
