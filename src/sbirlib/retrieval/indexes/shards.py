"""Shards: vectors and records in immutable, sealed safetensors files, read through memory maps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from pydantic import TypeAdapter

from sbirlib import sealed
from sbirlib.documents import Schema, read_json
from sbirlib.errors import InputError
from sbirlib.retrieval.indexes.records import Record, Records, Value, packed, unpacked

__all__ = ["FloatArray", "Record", "Shard", "Value", "read_shard", "write_shard"]

FloatArray = NDArray[np.float32]


class Digests(Schema):
    """Description of a shard: the digests of the file, of the encoder and of the records."""

    xxh3: str
    encoder: str
    records: str


DIGESTS = TypeAdapter(Digests)


@dataclass(frozen=True)
class Shard:
    """Vectors [N, V] (or [N, S, V] of queries), a record of each, and the digest of their encoder; `source` is the file they are mapped from."""

    vectors: FloatArray
    records: Sequence[Record]
    encoder: str = ""
    source: Path | None = None

    def __len__(self) -> int:
        return len(self.vectors)


def write_shard(path: str | Path, shard: Shard) -> None:
    """Write one file, atomically."""
    text, starts = packed(shard.records)
    arrays: dict[str, NDArray[Any]] = {"vectors": np.ascontiguousarray(shard.vectors), "records": text, "starts": starts}
    tensors = {name: torch.from_numpy(array if array.flags.writeable else array.copy()) for name, array in arrays.items()}
    sealed.write(path, tensors, {"encoder": shard.encoder, "records": _digest(text)})


def read_shard(path: str | Path, *, verify: bool = False) -> Shard:
    """Read a shard; its vectors stay on disk until they are accessed, and are held against the file's digest where `verify`."""
    source = Path(path)
    with sealed.opened(source, "np") as (_, about):
        header = _header(source)
    if not about or header.keys() != {"vectors", "records", "starts"}:
        raise InputError(f"{str(source)!r} is damaged or holds no vectors of sbirlib; make it again")
    digests = read_json(about, DIGESTS, f"the description in {str(source)!r}")
    text, starts = (_mapped(source, header, name) for name in ("records", "starts"))
    if _digest(text) != digests.records:
        raise InputError(f"{str(source)!r} is damaged: its records are not those of their digest; take another copy, or make it again")
    vectors, records = _mapped(source, header, "vectors"), unpacked(text, np.asarray(starts), str(source))
    if vectors.dtype != np.float32 or vectors.ndim not in (2, 3) or len(vectors) != len(records) or 0 in vectors.shape:
        raise InputError(
            f"{str(source)!r} is damaged: it holds vectors {vectors.dtype} {list(vectors.shape)} and {len(records)} records; make it again"
        )
    if verify:
        sealed.verify(source)
    return Shard(vectors, records, digests.encoder, source)


def read_old_shard(path: Path) -> Shard:
    """Read a shard of an earlier version, which had no digests, and its records as one JSON list."""
    tensors, _ = sealed.read(path)
    types = {name: (tensor.dtype, tensor.ndim) for name, tensor in tensors.items()}
    if types != {"vectors": (torch.float32, 2), "records": (torch.uint8, 1)}:
        raise InputError(f"{str(path)!r} is damaged or holds no vectors of sbirlib; index the photos again")
    vectors: FloatArray = tensors["vectors"].numpy()
    records: list[Record] = list(Records(*packed(_texts(tensors["records"].numpy().tobytes(), path)), str(path)))
    if len(vectors) != len(records) or 0 in vectors.shape or not np.isfinite(vectors).all():
        raise InputError(f"{str(path)!r} is damaged: it holds {len(vectors)} vectors and {len(records)} records; index the photos again")
    return Shard(vectors, records)


def _texts(table: bytes, path: Path) -> list[dict[str, Any]]:
    try:
        texts = json.loads(table)
    except (ValueError, RecursionError):
        texts = None
    if not isinstance(texts, list) or not all(isinstance(text, dict) for text in texts):
        raise InputError(f"{str(path)!r} is damaged: its records are no list of objects; index the photos again")
    return texts


def _digest(text: NDArray[Any]) -> str:
    return xxhash.xxh3_128_hexdigest(text.data)


def _header(path: Path) -> dict[str, Any]:
    """The header of a whole safetensors file, without the metadata."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return {name: {**about, "start": 8 + size + about["data_offsets"][0]} for name, about in header.items()}


def _mapped(path: Path, header: dict[str, Any], name: str) -> NDArray[Any]:
    """A memory map of one tensor of a safetensors file, whose header was checked."""
    about = header[name]
    dtype = {"F32": np.float32, "U8": np.uint8, "I64": np.int64}.get(about["dtype"])
    if dtype is None or 0 in about["shape"]:
        raise InputError(f"{str(path)!r} is damaged: {name} is {about['dtype']} {about['shape']}; make it again")
    return np.memmap(path, dtype=dtype, mode="r", offset=about["start"], shape=tuple(about["shape"]))
