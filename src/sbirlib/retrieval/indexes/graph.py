"""The graph of an HNSW index as arrays: levels [N], neighbours, the entry point, and the vectors in half precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from sbirlib.errors import InputError
from sbirlib.retrieval.indexes.arrays import Arrays, check, values


def empty(dim: int, links: int) -> Any:
    """An empty graph of so many links a node, over vectors of length `dim`."""
    return faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_fp16, links, faiss.METRIC_INNER_PRODUCT)


def arrays_of(structure: Any) -> Arrays:
    """The graph as arrays for a file: levels [N], neighbours [L], entry [2] and codes [N, 2 V]."""
    graph = structure.hnsw
    codes = values(faiss.downcast_index(structure.storage).codes).reshape(structure.ntotal, -1)
    entry = np.array([graph.entry_point, graph.max_level], dtype=np.int64)
    return {"levels": values(graph.levels), "neighbours": values(graph.neighbors), "entry": entry, "codes": codes}


def from_arrays(arrays: Mapping[str, NDArray[Any]], *, rows: int, dim: int, links: int) -> Any:
    """The graph of N = `rows`, from levels [N], neighbours [L], entry [2] and codes [N, 2 V], checked, for a search follows every neighbour."""
    structure = empty(dim, links)
    expected = {
        "levels": (np.int32, (rows,)),
        "neighbours": (np.int32, (None,)),
        "entry": (np.int64, (2,)),
        "codes": (np.uint8, (rows, 2 * dim)),
    }
    check(arrays, expected)
    levels, neighbours, (entry, highest) = arrays["levels"], arrays["neighbours"], arrays["entry"].tolist()
    places = faiss.vector_to_array(structure.hnsw.cum_nneighbor_per_level).astype(np.int64)
    if rows == 0 or levels.min() < 1 or levels.max() >= len(places):
        raise InputError(f"a level of its graph is not from 1 to {len(places) - 1}")
    offsets = np.concatenate([[0], np.cumsum(places[levels])])
    if offsets[-1] != len(neighbours) or not 0 <= entry < rows or highest != levels.max() - 1 or levels[entry] != levels.max():
        raise InputError("its graph does not add up")
    _check_neighbours(levels, neighbours, offsets, places)
    graph, storage = structure.hnsw, faiss.downcast_index(structure.storage)
    for array, vector in (
        (levels, graph.levels),
        (neighbours, graph.neighbors),
        (offsets.astype(np.uint64), graph.offsets),
        (arrays["codes"].reshape(-1), storage.codes),
    ):
        faiss.copy_array_to_vector(np.ascontiguousarray(array), vector)
    graph.entry_point, graph.max_level = entry, highest
    structure.ntotal = storage.ntotal = rows
    structure.is_trained = storage.is_trained = True
    return structure


def _check_neighbours(levels: Any, neighbours: Any, offsets: Any, places: Any) -> None:
    """Raise InputError unless every link on a level leads to a node of that level, or nowhere (-1)."""
    if neighbours.min(initial=0) < -1 or neighbours.max(initial=-1) >= len(levels):
        raise InputError("a link of its graph leads to no row")
    for level in range(1, int(levels.max())):
        nodes = np.flatnonzero(levels > level)
        width = int(places[level + 1] - places[level])
        linked = neighbours[(offsets[nodes] + places[level])[:, None] + np.arange(width)]
        if (levels[linked[linked >= 0]] <= level).any():
            raise InputError(f"a link of its graph on level {level} leads to a row that is not there")
