"""Base of the approximate indexes: a shortlist from a trained FAISS index, then exact scores."""

from __future__ import annotations

import math
from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any, Self

import faiss
import numpy as np
import torch
from annotated_types import Interval

from sbirlib import sealed
from sbirlib.errors import InputError
from sbirlib.retrieval.indexes.arrays import Arrays
from sbirlib.retrieval.indexes.base import State, new_name
from sbirlib.retrieval.indexes.exhaustive import IntArray, Mask
from sbirlib.retrieval.indexes.local import Local
from sbirlib.retrieval.indexes.shards import FloatArray

MAX_TRAINING_ROWS = 100_000
Nlist = Annotated[int, Interval(ge=1, le=1_000_000)]  # and nprobe
Rerank = Annotated[int, Interval(ge=1, le=10_000)]
Exhaustive = Annotated[int, Interval(ge=1, le=2**40)]


class Approximate(Local):
    """A shortlist of `rerank` times k rows from a FAISS index (`structure`), then exact scores.

    A search over fewer than `exhaustive` photos, in all or after the filter, is exhaustive and exact. The structure is trained once when
    the index reaches `exhaustive` photos; photos that come later are added to it without training.
    """

    def __init__(self, *, rerank: int, exhaustive: int) -> None:
        super().__init__()
        self.rerank, self.exhaustive = rerank, exhaustive
        self.structure: Any = None
        self._structure_file: str | None = None

    def insert(self, rows: FloatArray) -> None:
        """Train the structure at `exhaustive` rows, then append every new row of rows [N, V]."""
        if self.structure is not None:
            self.add_rows(rows)
        elif self.size + len(rows) >= self.exhaustive:
            blocks = [*(self.verified(shard).vectors for shard in self._shards), rows]
            step = math.ceil((self.size + len(rows)) / MAX_TRAINING_ROWS)
            try:
                self.structure = self.train(np.concatenate([block[::step] for block in blocks]))
            except (RuntimeError, MemoryError) as error:
                raise InputError(
                    f"{self.kind} cannot be trained on these vectors with its options ({str(error)[-200:]}): change them"
                ) from error
            for block in blocks:
                self.add_rows(block)
        self._structure_file = None

    def shortlist(self, queries: FloatArray, k: int, allowed: Mask | None) -> IntArray | None:
        """Row ids [N, at least k] from the structure; None where few photos are allowed."""
        count = self.size if allowed is None else int(allowed.sum())
        if self.structure is None or count < self.exhaustive:
            return None
        return self.candidates(queries, min(count, self.rerank * k), allowed)

    @abstractmethod
    def train(self, rows: FloatArray) -> Any:
        """An empty structure, trained on rows [N, V]."""

    @abstractmethod
    def add_rows(self, rows: FloatArray) -> None:
        """Append rows [N, V] to the structure."""

    @abstractmethod
    def candidates(self, queries: FloatArray, count: int, allowed: Mask | None) -> IntArray:
        """Row ids [N, count] for queries [N, V], best first by the structure's own scores, -1 where it finds fewer; `allowed` is [size]."""

    @abstractmethod
    def arrays(self) -> Arrays:
        """The structure as arrays by name, for a file, [N, ...] for N rows; `restored` takes them."""

    @abstractmethod
    def restored(self, arrays: Arrays) -> Any:
        """The structure from the arrays of a file, [N, ...] for N rows: InputError where they do not fit this index or each other."""

    def write(self, folder: Path) -> State:
        if folder.resolve() != self._folder:
            self._structure_file = None
        state = super().write(folder)
        if self.structure is not None and self._structure_file is None:
            name = new_name(self.kind)
            sealed.write(folder / name, {array: torch.from_numpy(values) for array, values in self.arrays().items()}, {})
            self._structure_file = name
        structure = self._structure_file if self.structure is not None else None
        return {**state, "files": [*state["files"], *filter(None, [structure])], "structure": structure}

    @classmethod
    def read(cls, folder: Path, state: State) -> Self:
        index = super().read(folder, state)
        if file := state.get("structure"):
            try:
                index.structure = index.restored({name: tensor.numpy() for name, tensor in sealed.read(folder / file)[0].items()})
            except (InputError, TypeError) as error:  # numpy has no bfloat16
                raise InputError(f"{str(folder / file)!r} is damaged: {error}; index the photos again") from error
            index._structure_file = file
        return index


def default_nlist(rows: int) -> int:
    """The default nlist for n training rows: 4 sqrt(n), and at least the 39 rows a list that FAISS wants for training."""
    return max(1, min(int(4 * math.sqrt(rows)), rows // 39))


def check_nlist(nlist: int | None, exhaustive: int) -> None:
    """Refuse more inverted lists than the `exhaustive` photos that train them."""
    if nlist is not None and nlist > exhaustive:
        raise InputError(
            f"nlist={nlist} lists need as many photos for training, got exhaustive={exhaustive}: lower nlist, or raise exhaustive"
        )


def selector(allowed: Mask | None) -> dict[str, Any]:
    """The FAISS selector of the rows [G] that are allowed, as keyword arguments."""
    return {} if allowed is None else {"sel": faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))}
