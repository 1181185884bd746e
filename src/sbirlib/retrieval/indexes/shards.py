"""Shards: vectors and records in immutable safetensors files, read through memory maps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save_file

from sbirlib.errors import InputError
from sbirlib.files import atomic_write

FloatArray = NDArray[np.float32]
Value = str | int | float | bool | None
Record = Mapping[str, Value]  # of a photo: its path, its category, and any other fields


@dataclass(frozen=True)
class Shard:
    """Vectors [N, V] (or [N, S, V] of queries), a record of each, and the digest of their encoder."""

    vectors: FloatArray
    records: Sequence[Record]
    encoder: str = ""

    def __len__(self) -> int:
        return len(self.records)


def write_shard(path: str | Path, shard: Shard) -> None:
    """Write one file, atomically."""
    encoded = np.frombuffer(json.dumps(list(shard.records)).encode(), dtype=np.uint8)
    tensors: dict[str, NDArray[Any]] = {"vectors": np.ascontiguousarray(shard.vectors), "records": encoded}
    with atomic_write(path) as partial:
        save_file(tensors, partial, metadata={"encoder": shard.encoder})


def read_shard(path: str | Path) -> Shard:
    """Read a shard; its vectors stay on disk until they are accessed."""
    source = Path(path)
    try:
        with safetensors.safe_open(source, framework="np") as file:  # checks that the file is whole
            encoder = (file.metadata() or {})["encoder"]
            records = json.loads(file.get_tensor("records").tobytes())
        vectors = _mapped(source, "vectors")
    except FileNotFoundError as error:
        raise InputError(f"there is no file {str(source)!r}") from error
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{str(source)!r} is damaged or holds no vectors of sbirlib ({error}); embed the photos again") from error
    if len(vectors) != len(records):
        raise InputError(f"{str(source)!r} holds {len(vectors)} vectors and {len(records)} records: it is damaged; embed the photos again")
    return Shard(vectors, records, encoder)


def _mapped(path: Path, name: str) -> FloatArray:
    """A memory map of one float32 tensor of a safetensors file: eight bytes of header length, the header, the tensors."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        about: dict[str, Any] = json.loads(file.read(size))[name]
    if about["dtype"] != "F32":
        raise ValueError(f"{name} is {about['dtype']}, not F32")
    return np.memmap(path, dtype=np.float32, mode="r", offset=8 + size + about["data_offsets"][0], shape=tuple(about["shape"]))
