"""An index of this machine: vectors in shards, mapped into memory, and what is known of each photo."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.retrieval.indexes.base import Index, State, Where, check_records, merged, new_name
from sbirlib.retrieval.indexes.exhaustive import Found, IntArray, Mask, best_allowed
from sbirlib.retrieval.indexes.fields import Fields
from sbirlib.retrieval.indexes.shards import FloatArray, Record, Shard, read_shard, write_shard
from sbirlib.threads import in_threads

ROWS = 65_536  # of a shard
GATHER = 2**20  # bytes of vectors that are copied out at once, which stay in the cache until they are multiplied


class Local(Index):
    """Everything but the shortlist: a kind that is not exhaustive names some rows, and their scores are then computed exactly.

    A removed photo's vector stays in its shard and is passed over; indexing anew sheds it.
    """

    def __init__(self) -> None:
        self._shards: list[Shard] = []
        self._files: list[str | None] = []  # of each shard, in `_folder`; None: not written yet
        self._folder: Path | None = None
        self._starts = np.zeros(1, dtype=np.int64)  # the first id of each shard, and the next id
        self._id_of: dict[str, int] = {}
        self._removed: set[int] = set()
        self._fields = Fields()

    def __len__(self) -> int:
        return len(self._id_of)

    @property
    def dim(self) -> int:
        return int(self._shards[0].vectors.shape[1]) if self._shards else 0

    @property
    def size(self) -> int:
        """The rows of all shards, removed ones too."""
        return int(self._starts[-1])

    def add(self, vectors: Tensor, records: Sequence[Record]) -> None:
        rows = self.vectors(vectors, dims=(2,))
        check_records(records, len(rows), self._id_of)
        self.learn(rows)
        self._take(Shard(rows.copy(), list(records)), None)

    def remove(self, paths: Collection[str]) -> None:
        for path in paths:
            if path not in self._id_of:
                raise InputError(f"{path!r} is not in the index, so it cannot be removed")
        self._removed |= {self._id_of.pop(path) for path in set(paths)}

    def search(self, queries: Tensor, k: int, where: Where | None = None) -> tuple[Tensor, Tensor]:
        asked = self.vectors(queries, dims=(2, 3))
        self.check_search(k, where, self._fields.names())
        allowed = self._allowed(where)
        k = min(k, self.size if allowed is None else int(allowed.sum()))
        if k == 0:
            return torch.empty(len(asked), 0), torch.empty(len(asked), 0, dtype=torch.int64)
        flat = asked.reshape(-1, asked.shape[-1])
        rows = self.shortlist(flat, k, allowed)
        scores, ids = self._exhaustive(flat, k, allowed) if rows is None else self._scored(flat, rows, k)
        return merged(scores.reshape(len(asked), -1), ids.reshape(len(asked), -1), k)

    def records(self, ids: Tensor) -> list[Record]:
        shards = np.searchsorted(self._starts, ids.numpy(), side="right") - 1
        return [self._shards[s].records[i - int(self._starts[s])] for s, i in zip(shards.tolist(), ids.tolist(), strict=True)]

    def paths(self) -> list[str]:
        return list(self._id_of)

    def options(self) -> dict[str, Any]:
        """What the index was made with, by name."""
        return {}

    @abstractmethod
    def learn(self, rows: FloatArray) -> None:
        """Take new rows [n, V], whose ids begin at `size`, into whatever makes the shortlist."""

    @abstractmethod
    def shortlist(self, queries: FloatArray, k: int, allowed: Mask | None) -> IntArray | None:
        """Rows [n, at least k] that are likely the best, -1 where there are fewer, or None: compare all."""

    def write(self, folder: Path) -> State:
        if not self._shards:
            raise InputError("the index is empty: add photos before saving it")
        if folder.resolve() != self._folder:
            self._files = [None] * len(self._shards)
        for number, (shard, file) in enumerate(zip(self._shards, self._files, strict=True)):
            if file is None:
                name = new_name("vectors")
                write_shard(folder / name, shard)
                self._files[number] = name  # only now: a save that failed is tried again
        self._folder = folder.resolve()
        return {"files": list(self._files), "shards": list(self._files), "removed": sorted(self._removed), "options": self.options()}

    @classmethod
    def read(cls, folder: Path, state: State) -> Self:
        index = cls(**state["options"])
        index._folder, index._removed = folder.resolve(), set(state["removed"])
        for file in state["shards"]:
            index._take(read_shard(folder / file), file)
        return index

    def _take(self, shard: Shard, file: str | None) -> None:
        for row, record in enumerate(shard.records, self.size):
            if row not in self._removed:
                self._id_of[str(record["path"])] = row
        self._fields.append(shard.records)
        for i in range(0, len(shard), ROWS):
            part = shard if len(shard) <= ROWS else Shard(shard.vectors[i : i + ROWS], shard.records[i : i + ROWS])
            self._shards.append(part)
            self._files.append(file)
            self._starts = np.append(self._starts, self.size + len(part))
            self._join()

    def _join(self) -> None:
        """Keep shards few where photos come in small numbers: a shard that has grown to half of the one before becomes part of it."""
        while len(self._shards) > 1 and 2 * len(self._shards[-1]) >= len(self._shards[-2]):
            before, last = self._shards[-2:]
            if len(before) + len(last) > ROWS:
                return
            self._shards[-2:] = [Shard(np.concatenate([before.vectors, last.vectors]), [*before.records, *last.records])]
            self._files[-2:] = [None]
            self._starts = np.delete(self._starts, -2)

    def _allowed(self, where: Where | None) -> Mask | None:
        """Which rows may be found [size]; None: all."""
        if not where and not self._removed:
            return None
        allowed = self._fields.matching(where or {})
        allowed[list(self._removed)] = False
        return allowed

    def _exhaustive(self, queries: FloatArray, k: int, allowed: Mask | None) -> Found:
        found = []
        for start, shard in zip(self._starts.tolist(), self._shards, strict=False):
            part = None if allowed is None else allowed[start : start + len(shard)]
            if part is None or part.any():
                scores, rows = best_allowed(shard.vectors, queries, k, part)
                found.append((scores, rows + start))
        scores, rows = (np.concatenate(each, 1) for each in zip(*found, strict=True))
        return scores, rows

    def _scored(self, queries: FloatArray, rows: IntArray, k: int) -> Found:
        """The inner products of queries [n, V] with rows [n, c], -inf for -1."""
        scores = np.empty(rows.shape, dtype=np.float32)
        step = max(1, GATHER // (rows.shape[1] * self.dim * 4))

        def some(start: int) -> None:
            part = slice(start, start + step)
            vectors = self.rows(np.maximum(rows[part], 0).ravel()).reshape(-1, rows.shape[1], self.dim)
            np.matmul(vectors, queries[part, :, None], out=scores[part, :, None])

        with in_threads(torch.get_num_threads()) as each:
            each([partial(some, start) for start in range(0, len(rows), step)])
        scores[rows < 0] = -np.inf
        return scores, rows

    def rows(self, ids: IntArray) -> FloatArray:
        """The vectors of these rows [n], as [n, V]."""
        if len(self._shards) == 1:
            one: FloatArray = np.asarray(self._shards[0].vectors).take(ids, axis=0)
            return one
        vectors = np.empty((len(ids), self.dim), dtype=np.float32)
        shards = np.searchsorted(self._starts, ids, side="right") - 1
        for s in np.unique(shards):
            chosen = shards == s
            vectors[chosen] = self._shards[s].vectors[ids[chosen] - self._starts[s]]
        return vectors
