"""Local index: memory-mapped shards of vectors, with a record of each photo."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from sbirlib import sealed
from sbirlib.documents import Count, Schema, read_object
from sbirlib.errors import InputError, nearest
from sbirlib.progress import track
from sbirlib.retrieval.indexes.base import Index, State, UnknownField, Where, check_records, merged, new_name
from sbirlib.retrieval.indexes.exhaustive import IntArray, Mask, Results, best_allowed
from sbirlib.retrieval.indexes.fields import Column
from sbirlib.retrieval.indexes.manifest import FileName
from sbirlib.retrieval.indexes.shards import FloatArray, Record, Shard, read_shard, write_shard
from sbirlib.spec import part

ROWS = 65_536  # of a shard


class Saved(Schema):
    """State of a saved local index: its shards and structure by their files, and the ids that were removed."""

    files: list[FileName]
    shards: list[FileName]
    removed: list[Count]
    options: dict[str, Any]
    structure: FileName | None = None


STATE = TypeAdapter(Saved)


class Local(Index):
    """Base of the local indexes: all but the shortlist, whose rows get their exact scores here.

    The vector of a removed photo stays in its shard and is skipped; indexing again drops it.
    """

    def __init__(self) -> None:
        self._shards: list[Shard] = []
        self._files: list[str | None] = []  # of each shard, in `_folder`; None: not written yet
        self._folder: Path | None = None
        self._starts = np.zeros(1, dtype=np.int64)  # the first id of each shard, and the next id
        self._removed: set[int] = set()
        self._columns: dict[str, Column] = {}  # of the fields that a filter has asked for
        self._sources: set[Path] = set()  # files whose content was held against its digest

    def __len__(self) -> int:
        return self.size - len(self._removed)

    @property
    def dim(self) -> int:
        return int(self._shards[0].vectors.shape[1]) if self._shards else 0

    @property
    def size(self) -> int:
        """The number of rows in all shards, removed ones included."""
        return int(self._starts[-1])

    @cached_property
    def _id_of(self) -> dict[str, int]:
        """The ids of all photos by path; read from the records when they are first asked for, so that an index opens at once."""
        ids: dict[str, int] = {}
        for start, shard in zip(self._starts.tolist(), self._tracked(), strict=False):
            ids |= {str(record["path"]): i for i, record in enumerate(shard.records, start) if i not in self._removed}
        if len(ids) != len(self):
            raise InputError(
                f"the records of this index name {len(ids)} photos, and it has {len(self)}: it is damaged; index the photos again"
            )
        return ids

    def _column(self, field: str) -> Column:
        """The column of a field; read from the records when a filter first asks for it."""
        if field not in self._columns:
            column = Column(field)
            for shard in self._tracked():
                column.append(shard.records)
            if column.empty:
                names = {name for shard in self._shards for record in shard.records for name in record}
                raise UnknownField(f"no photo here has a field {field[:80]!r}{nearest(field, names)}")
            self._columns[field] = column
        return self._columns[field]

    def _tracked(self) -> Iterator[Shard]:
        return track(self._shards, total=len(self._shards), label="reading records")

    def add(self, vectors: Tensor, records: Sequence[Record]) -> None:
        """Add photos by their vectors [N, V], with a record each, all or none."""
        rows = self.checked(vectors, dims=(2,))
        check_records(records, len(rows), self._id_of)
        self.insert(rows)
        self._id_of.update((str(record["path"]), i) for i, record in enumerate(records, self.size))
        for column in self._columns.values():
            column.append(records)
        self._append(Shard(rows.copy(), list(records)), None)

    def remove(self, paths: Collection[str]) -> None:
        for path in paths:
            if path not in self._id_of:
                raise InputError(f"{path!r} is not in the index, so it cannot be removed")
        self._removed |= {self._id_of.pop(path) for path in set(paths)}

    def search(self, queries: Tensor, k: int, where: Where | None = None) -> tuple[Tensor, Tensor]:
        """Scores and ids [Q, min(k, matches)] for queries [Q, S, V] or [Q, V]; see `Index.search`."""
        vectors = self.checked(queries, dims=(2, 3))
        self.check_search(k)
        allowed = self._allowed(where)
        k = min(k, self.size if allowed is None else int(allowed.sum()))
        if k == 0:
            return torch.empty(len(vectors), 0), torch.empty(len(vectors), 0, dtype=torch.int64)
        flat = vectors.reshape(-1, vectors.shape[-1])
        rows = self.shortlist(flat, k, allowed)
        scores, ids = self._exhaustive(flat, k, allowed) if rows is None else self._scored(flat, rows)
        if not np.isfinite(scores[ids >= 0]).all() or (rows is None and (ids < 0).any()):
            raise InputError(
                "vectors of this index hold NaN, infinity or numbers near it, so nothing can be ranked: index the photos again"
            )
        return merged(scores.reshape(len(vectors), -1), ids.reshape(len(vectors), -1), k)

    def count(self, where: Where | None = None) -> int:
        allowed = self._allowed(where)
        return self.size if allowed is None else int(allowed.sum())

    def records(self, ids: Tensor) -> list[Record]:
        """The records of the photos with these ids [N]."""
        if unknown := [i for i in ids.tolist() if not 0 <= i < self.size or i in self._removed]:
            raise InputError(f"no photo of this index has the id {unknown[0]}")
        shards = np.searchsorted(self._starts, ids.numpy(), side="right") - 1
        return [self._shards[s].records[i - int(self._starts[s])] for s, i in zip(shards.tolist(), ids.tolist(), strict=True)]

    def all_records(self) -> Iterator[Record]:
        for start, shard in zip(self._starts.tolist(), self._tracked(), strict=False):
            yield from (record for i, record in enumerate(shard.records, start) if i not in self._removed)

    def vectors(self, paths: Sequence[str]) -> Tensor:
        if unknown := [path for path in paths if path not in self._id_of]:
            raise InputError(f"{unknown[0]!r} is not in the index")
        return torch.from_numpy(self.rows(np.array([self._id_of[path] for path in paths], dtype=np.int64)).copy())

    def paths(self) -> list[str]:
        return list(self._id_of)

    def options(self) -> dict[str, Any]:
        """The constructor's options, by name."""
        return {}

    @abstractmethod
    def insert(self, rows: FloatArray) -> None:
        """Insert new rows [N, V], whose ids begin at `size`, into the structure behind the shortlist, if there is one."""

    @abstractmethod
    def shortlist(self, queries: FloatArray, k: int, allowed: Mask | None) -> IntArray | None:
        """Candidate row ids [N, at least k] for queries [N, V], -1 where there are fewer; None: search exhaustively. `allowed` is [size]."""

    def write(self, folder: Path) -> State:
        if not self._shards:
            raise InputError("the index is empty: add photos before saving it")
        if folder.resolve() != self._folder:
            self._files = [None] * len(self._shards)
        for number, (shard, file) in enumerate(zip(self._shards, self._files, strict=True)):
            if file is None:
                name = new_name("vectors")
                write_shard(folder / name, self.verified(shard))
                self._files[number] = name  # only after the write: a failed save is tried again
        self._folder = folder.resolve()
        return {"files": list(self._files), "shards": list(self._files), "removed": sorted(self._removed), "options": self.options()}

    @classmethod
    def read(cls, folder: Path, state: State) -> Self:
        saved = read_object(state, STATE, "state")
        if len(set(saved.shards)) < len(saved.shards) or not {*saved.shards, *filter(None, [saved.structure])} <= set(saved.files):
            raise InputError("its state is damaged: it names a file twice, or one that is none of the index's; index the photos again")
        index: Self = part("index", {"name": cls.kind, **saved.options})
        index._folder, index._removed = folder.resolve(), set(saved.removed)
        for file in saved.shards:
            shard = read_shard(folder / file)
            if shard.vectors.ndim != 2 or index.dim not in (0, shard.vectors.shape[1]):
                raise InputError(f"{str(folder / file)!r} holds vectors {list(shard.vectors.shape)}, expected [N, {index.dim or 'V'}]")
            index._append(shard, file)
        if not saved.shards or len(index._removed) != len(saved.removed) or max(index._removed, default=0) >= index.size:
            raise InputError(f"its state is damaged: {len(saved.removed)} photos of {index.size} are removed; index the photos again")
        return index

    def restore(self, shard: Shard, *, removed: Collection[int] = ()) -> None:
        """Add a whole shard of another index, with the ids that were removed there."""
        self.insert(np.ascontiguousarray(shard.vectors))
        self._removed |= {i for i in removed if self.size <= i < self.size + len(shard)}
        self._append(shard, None)

    def _append(self, shard: Shard, file: str | None) -> None:
        for i in range(0, len(shard), ROWS):
            piece = (
                shard if len(shard) <= ROWS else replace(shard, vectors=shard.vectors[i : i + ROWS], records=shard.records[i : i + ROWS])
            )
            self._shards.append(piece)
            self._files.append(file)
            self._starts = np.append(self._starts, self.size + len(piece))
            self._join()

    def verified(self, shard: Shard) -> Shard:
        """The shard, whose file is read whole and held against its digest once, before its vectors go into another file with one of its own."""
        if shard.source is not None and shard.source not in self._sources:
            if not shard.source.is_file():
                raise InputError(
                    f"{shard.source.parent} was changed by another process since it was opened here: open it again and repeat the change"
                )
            sealed.verify(shard.source)
            self._sources.add(shard.source)
        return shard

    def _join(self) -> None:
        """Merge the last shard into the one before once it has half of its rows, so that many small additions leave few shards."""
        while len(self._shards) > 1 and 2 * len(self._shards[-1]) >= len(self._shards[-2]):
            before, last = self._shards[-2:]
            if len(before) + len(last) > ROWS:
                return
            before, last = self.verified(before), self.verified(last)
            self._shards[-2:] = [Shard(np.concatenate([before.vectors, last.vectors]), [*before.records, *last.records])]
            self._files[-2:] = [None]
            self._starts = np.delete(self._starts, -2)

    def _allowed(self, where: Where | None) -> Mask | None:
        """The mask [size] of the rows that a search may return; None: all."""
        if not where and not self._removed:
            return None
        allowed = np.ones(self.size, dtype=np.bool_)
        for field, wanted in (where or {}).items():
            allowed &= self._column(field).matching(wanted)
        allowed[list(self._removed)] = False
        return allowed

    def _exhaustive(self, queries: FloatArray, k: int, allowed: Mask | None) -> Results:
        results = []
        for start, shard in zip(self._starts.tolist(), self._shards, strict=False):
            mask = None if allowed is None else allowed[start : start + len(shard)]
            if mask is None or mask.any():
                scores, rows = best_allowed(shard.vectors, queries, k, mask)
                results.append((scores, rows + start))
        scores, rows = (np.concatenate(blocks, 1) for blocks in zip(*results, strict=True))
        return scores, rows

    def _scored(self, queries: FloatArray, rows: IntArray) -> Results:
        """The inner products of queries [N, V] with rows [N, c], -inf for -1; by FAISS, which reads each vector where it lies."""
        scores = np.full(rows.shape, -np.inf, dtype=np.float32)
        for start, shard in zip(self._starts.tolist(), self._shards, strict=False):
            own = (rows >= start) & (rows < start + len(shard))
            products, ids = np.zeros_like(scores), np.where(own, rows - start, -1)
            arrays = (faiss.swig_ptr(array) for array in (products, queries, np.asarray(shard.vectors), ids))
            faiss.fvec_inner_products_by_idx(*arrays, self.dim, *rows.shape)
            np.copyto(scores, products, where=own)
        return scores, rows

    def rows(self, ids: IntArray) -> FloatArray:
        """The vectors [N, V] of rows [N]."""
        if len(self._shards) == 1:
            rows: FloatArray = np.asarray(self._shards[0].vectors).take(ids, axis=0)
            return rows
        vectors = np.empty((len(ids), self.dim), dtype=np.float32)
        shards = np.searchsorted(self._starts, ids, side="right") - 1
        for s in np.unique(shards):
            mask = shards == s
            vectors[mask] = self._shards[s].vectors[ids[mask] - self._starts[s]]
        return vectors
