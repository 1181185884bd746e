"""What approximate indexes share: a structure over all rows, which is learned from the first photos and written beside them."""

from __future__ import annotations

import math
from abc import abstractmethod
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
from safetensors import SafetensorError

from sbirlib.errors import InputError
from sbirlib.files import atomic_write
from sbirlib.retrieval.indexes.base import State, new_name
from sbirlib.retrieval.indexes.exhaustive import IntArray, Mask
from sbirlib.retrieval.indexes.local import Local
from sbirlib.retrieval.indexes.shards import FloatArray

LEARNED = 100_000  # rows are enough to learn from


class Approximate(Local):
    """A shortlist of `rerank` times k rows from a structure, then exact scores.

    Fewer than `exhaustive` photos, in all or that pass a filter, are compared one by one, exactly. The structure is learned when so many
    are there; photos added later are entered into it as it is.
    """

    suffix = "faiss"

    def __init__(self, *, rerank: int, exhaustive: int) -> None:
        if rerank < 1 or exhaustive < 1:
            raise InputError(f"rerank and exhaustive are at least 1, got {rerank} and {exhaustive}")
        super().__init__()
        self.rerank, self.exhaustive = rerank, exhaustive
        self.structure: Any = None
        self._structure_file: str | None = None

    def learn(self, rows: FloatArray) -> None:
        if self.structure is not None:
            self.enter(rows)
        elif self.size + len(rows) >= self.exhaustive:
            every = [*(shard.vectors for shard in self._shards), rows]
            step = math.ceil((self.size + len(rows)) / LEARNED)
            self.structure = self.make(np.concatenate([some[::step] for some in every]))
            for some in every:
                self.enter(some)
        self._structure_file = None

    def shortlist(self, queries: FloatArray, k: int, allowed: Mask | None) -> IntArray | None:
        count = self.size if allowed is None else int(allowed.sum())
        if self.structure is None or count < self.exhaustive:
            return None
        return self.candidates(queries, min(count, self.rerank * k), allowed)

    @abstractmethod
    def make(self, rows: FloatArray) -> Any:
        """An empty structure for vectors like these."""

    @abstractmethod
    def enter(self, rows: FloatArray) -> None:
        """Add rows [n, V] to the structure, after those it has."""

    @abstractmethod
    def candidates(self, queries: FloatArray, count: int, allowed: Mask | None) -> IntArray:
        """Rows [n, count], best first by the structure's own scores, -1 where it found fewer."""

    def write_structure(self, path: Path) -> None:
        """Write the structure to a file; a FAISS index unless a kind has another."""
        faiss.write_index(self.structure, str(path))

    def read_structure(self, path: Path) -> Any:
        """The structure that was written."""
        return faiss.read_index(str(path))

    def write(self, folder: Path) -> State:
        if folder.resolve() != self._folder:
            self._structure_file = None
        state = super().write(folder)
        if self.structure is not None and self._structure_file is None:
            name = new_name(self.kind, self.suffix)
            with atomic_write(folder / name) as partial:
                self.write_structure(partial)
            self._structure_file = name
        structure = [self._structure_file] if self.structure is not None else []
        return {**state, "files": [*state["files"], *structure], "structure": structure}

    @classmethod
    def read(cls, folder: Path, state: State) -> Self:
        index = super().read(folder, state)
        for file in state["structure"]:
            try:
                index.structure = index.read_structure(folder / file)
            except (RuntimeError, OSError, KeyError, SafetensorError) as error:
                raise InputError(f"{str(folder / file)!r} is damaged or missing ({error}); index the photos again") from error
            index._structure_file = file
        return index


def number_of_lists(rows: int) -> int:
    """How many lists so many first photos make: 4 sqrt(n), if FAISS then has the 39 photos it wants to learn each of them from."""
    return max(1, min(int(4 * math.sqrt(rows)), rows // 39))


def selector(allowed: Mask | None) -> dict[str, Any]:
    """The rows that FAISS may return, as it takes them."""
    return {} if allowed is None else {"sel": faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))}
