"""The plain index: every photo is compared, by FAISS, and the answer is exact."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.files import whole_file

FILE = "vectors.safetensors"
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


class Flat:
    """Exact search for the largest inner product, the largest of S for queries of S vectors; equal scores come in gallery order.

    >>> index = Flat()
    >>> index.add(torch.eye(3))
    >>> index.search(torch.tensor([[0.0, 0.6, 0.8]]), k=2)
    (tensor([[0.8000, 0.6000]]), tensor([[2, 1]]))
    """

    def __init__(self) -> None:
        self._index: faiss.IndexFlatIP | None = None

    def __len__(self) -> int:
        return 0 if self._index is None else int(self._index.ntotal)

    def add(self, vectors: Tensor) -> None:
        """Append vectors [G, V]; the first row is the number of photos there were before."""
        if vectors.ndim != 2 or vectors.numel() == 0:
            raise InputError(f"vectors [G, V] of at least one photo were expected, got {list(vectors.shape)}")
        rows = self._rows(vectors)
        if self._index is None:
            self._index = faiss.IndexFlatIP(rows.shape[1])
        self._index.add(rows)

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k best photos of each query [Q, S, V] or [Q, V]: scores and rows [Q, min(k, G)], best first.

        Each of the S vectors is asked for its own k best, which hold the k best by the largest score.
        """
        if k < 1:
            raise InputError(f"k is how many photos to find, at least 1, got {k}")
        if len(self) == 0:
            raise InputError("the index is empty: add photos before searching")
        if queries.ndim not in (2, 3) or queries.numel() == 0:
            raise InputError(f"queries [Q, S, V] or [Q, V] were expected, got {list(queries.shape)}")
        k = min(k, len(self))
        scores, rows = self._best(self._rows(queries.reshape(-1, queries.shape[-1])), k)
        scores, rows = _in_order(scores.reshape(len(queries), -1), rows.reshape(len(queries), -1))
        if queries.ndim == 3:
            scores, rows = _in_order(np.where(_seen_before(rows), -np.inf, scores).astype(np.float32), rows)
        return torch.from_numpy(scores[:, :k].copy()), torch.from_numpy(rows[:, :k].copy())

    def save(self, folder: str | Path) -> None:
        """Write the vectors into the folder: one safetensors file, whole or not at all."""
        if self._index is None:
            raise InputError("the index is empty: add photos before saving it")
        vectors = torch.from_numpy(self._index.reconstruct_n(0, len(self)))
        with whole_file(Path(folder) / FILE) as path:
            save_file({"vectors": vectors}, path)

    @classmethod
    def open(cls, folder: str | Path) -> Flat:
        """The index that `save` wrote."""
        path = Path(folder) / FILE
        if not path.is_file():
            raise InputError(f"there is no index in {str(folder)!r}: {FILE} is missing. Make one with Pipeline.index or `sbirlib index`")
        try:
            vectors = load_file(path)["vectors"]
        except (safetensors.SafetensorError, OSError, KeyError) as error:
            raise InputError(f"{str(path)!r} is damaged or not an index of sbirlib ({error}); build the index again") from error
        index = cls()
        index.add(vectors)
        return index

    def _best(self, queries: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
        """At least the k best photos of each vector; where FAISS would cut through equal scores, the earliest of them."""
        assert self._index is not None
        scores, rows = self._index.search(queries, min(k + 1, len(self)))
        if k < len(self):
            for i in np.flatnonzero(scores[:, k - 1] == scores[:, k]):
                every, row = _in_order(*self._index.search(queries[i : i + 1], len(self)))
                scores[i], rows[i] = every[0, : k + 1], row[0, : k + 1]
        return scores, rows

    def _rows(self, vectors: Tensor) -> FloatArray:
        """Vectors as FAISS takes them."""
        if self._index is not None and vectors.shape[1] != self._index.d:
            raise InputError(f"this index holds vectors of {self._index.d} numbers, got {vectors.shape[1]}: use the encoder that made it")
        if not vectors.isfinite().all():
            raise InputError("a vector holds NaN or infinity: check the encoder's weights and the image")
        return np.ascontiguousarray(vectors.detach().cpu().float().numpy())


def _in_order(scores: FloatArray, rows: IntArray) -> tuple[FloatArray, IntArray]:
    """Best score first, and among equals the lowest row."""
    order = np.lexsort((rows, -scores))
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def _seen_before(rows: IntArray) -> NDArray[np.bool_]:
    """Whether a row has come before in its line."""
    order = rows.argsort(axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, 1)
    repeated = np.zeros(rows.shape, dtype=np.bool_)
    np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    return repeated
