"""Photos that the tests of indexes add: random vectors, and a record of each."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from sbirlib.retrieval.indexes.base import Index
from sbirlib.retrieval.indexes.manifest import MANIFEST, write_manifest
from sbirlib.retrieval.indexes.shards import Record


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def described(count: int, start: int = 0) -> list[Record]:
    return [{"path": f"{i}.jpg", "category": f"c{i % 3}", "year": 2000 + i % 7} for i in range(start, start + count)]


def filled(index: Index, vectors: Tensor) -> Index:
    index.add(vectors, described(len(vectors), len(index)))
    return index


def restamp(folder: Path) -> None:
    """Write lengths and digests of the files of an index anew, as whoever alters them can."""
    content = json.loads((folder / MANIFEST).read_text())
    files = content.pop("files")
    write_manifest(folder, {name: value for name, value in content.items() if name != "xxh3"}, files)
