"""FAISS structures as plain arrays: FAISS's own file reader trusts every file, so its objects are built from arrays that were checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from sbirlib.errors import InputError

Arrays = dict[str, NDArray[Any]]
Shape = tuple[int | None, ...]


def check(arrays: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[Any, Shape]]) -> None:
    """Raise InputError unless the arrays have these names, types and shapes (None: any length), and numbers are finite."""
    if arrays.keys() != expected.keys():
        raise InputError(f"it holds the arrays {sorted(arrays)}, expected {sorted(expected)}")
    for name, (dtype, shape) in expected.items():
        value = arrays[name]
        fits = value.ndim == len(shape) and all(want in (None, size) for want, size in zip(shape, value.shape, strict=True))
        if value.dtype != dtype or not fits:
            sizes = ["N" if size is None else size for size in shape]
            raise InputError(f"{name} is {value.dtype} {list(value.shape)}, expected {np.dtype(dtype)} {sizes}")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise InputError(f"{name} holds NaN or infinity")


def values(vector: Any) -> NDArray[Any]:
    """The content [N] of a vector of FAISS, without a copy: to be used while its owner lives."""
    view: NDArray[Any] = faiss.rev_swig_ptr(vector.data(), vector.size()) if vector.size() else faiss.vector_to_array(vector)
    return view


def lists_of(index: Any) -> Arrays:
    """The inverted lists of an index: sizes [L], and, list after list, ids [N] and codes [N, C]."""
    lists = index.invlists
    sizes = np.array([lists.list_size(i) for i in range(lists.nlist)], dtype=np.int64)
    ids, codes = np.empty(sizes.sum(), np.int64), np.empty((sizes.sum(), lists.code_size), np.uint8)
    for i, (start, size) in enumerate(zip(np.cumsum(sizes) - sizes, sizes, strict=True)):
        if size:
            ids[start : start + size] = faiss.rev_swig_ptr(lists.get_ids(i), int(size))
            codes[start : start + size] = faiss.rev_swig_ptr(lists.get_codes(i), int(size * lists.code_size)).reshape(size, -1)
    return {"sizes": sizes, "ids": ids, "codes": codes}


def check_lists(arrays: Mapping[str, NDArray[Any]], rows: int) -> None:
    """Raise InputError unless sizes [L] add up to `rows`, and ids [N] are the rows from 0, each once."""
    sizes, ids = arrays["sizes"], arrays["ids"]
    if (sizes < 0).any() or (sizes > rows).any() or int(sizes.sum()) != rows or len(ids) != rows:
        raise InputError(f"its lists hold {int(sizes.sum())} rows, and the index has {rows}")
    if rows and (int(ids.min()) < 0 or int(ids.max()) >= rows or (np.bincount(ids, minlength=rows) != 1).any()):
        raise InputError(f"its lists do not hold each of the {rows} rows once")


def fill_lists(index: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Put checked lists, sizes [L], ids [N] and codes [N, C], into an empty index."""
    sizes, ids, codes = arrays["sizes"], np.ascontiguousarray(arrays["ids"]), np.ascontiguousarray(arrays["codes"])
    for i, (start, size) in enumerate(zip(np.cumsum(sizes) - sizes, sizes, strict=True)):
        if size:
            own, theirs = ids[start : start + size], codes[start : start + size]
            index.invlists.add_entries(i, int(size), faiss.swig_ptr(own), faiss.swig_ptr(theirs))
    index.ntotal, index.is_trained = len(ids), True
