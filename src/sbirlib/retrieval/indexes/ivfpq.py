"""IVF-PQ index: inverted lists with product quantization (Jegou et al. 2011), by FAISS."""

from __future__ import annotations

import math
from typing import Annotated, Any

import faiss
import numpy as np
from annotated_types import Interval

from sbirlib.retrieval.indexes.approximate import Approximate, Nlist, Rerank, check_nlist, default_nlist, selector
from sbirlib.retrieval.indexes.arrays import Arrays, check, check_lists, fill_lists, lists_of, values
from sbirlib.retrieval.indexes.exhaustive import IntArray, Mask
from sbirlib.retrieval.indexes.shards import FloatArray


class IvfPq(Approximate):
    """Small and fast: `M` bytes a photo in memory; its vector stays on disk and is read only for the shortlist.

    M, nlist and nprobe are FAISS's own options.

    Args:
        M: subquantizers, of 8 bits each
        nlist: inverted lists; about 4 sqrt(n) for the n photos at training where none
        nprobe: inverted lists that a query visits
        rerank: length of the shortlist, in multiples of k
        exhaustive: photos from which the shortlist is used, and trained on; a search over fewer is exhaustive and exact
    """

    kind = "ivfpq"

    def __init__(
        self,
        *,
        M: Annotated[int, Interval(ge=1, le=1024)] = 64,  # noqa: N803
        nlist: Nlist | None = None,
        nprobe: Nlist = 16,
        rerank: Rerank = 10,
        exhaustive: Annotated[int, Interval(ge=256, le=2**40)] = 10_000,  # 8-bit codes need 256 photos for training
    ) -> None:
        super().__init__(rerank=rerank, exhaustive=exhaustive)
        check_nlist(nlist, exhaustive)
        self.M, self.nlist, self.nprobe = M, nlist, nprobe

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("M", "nlist", "nprobe", "rerank", "exhaustive")}

    def train(self, rows: FloatArray) -> Any:
        """Empty inverted lists and product quantizer, trained on rows [N, V] after a random rotation."""
        structure = self._empty(rows.shape[1], self.nlist or default_nlist(len(rows)))
        structure.train(rows)
        return structure

    def _empty(self, dim: int, nlist: int) -> Any:
        return faiss.index_factory(dim, f"RR{self._padded(dim)},IVF{nlist},PQ{self.M}", faiss.METRIC_INNER_PRODUCT)

    def _padded(self, dim: int) -> int:
        return math.ceil(dim / self.M) * self.M  # subquantizers take equal numbers of dimensions

    def add_rows(self, rows: FloatArray) -> None:
        """Encode rows [N, V] and append them to their lists."""
        self.structure.add(rows)

    def candidates(self, queries: FloatArray, count: int, allowed: Mask | None) -> IntArray:
        """Row ids [N, count] from the nearest `nprobe` lists."""
        parameters = faiss.SearchParametersPreTransform(index_params=faiss.SearchParametersIVF(nprobe=self.nprobe, **selector(allowed)))
        rows: IntArray = self.structure.search(queries, count, params=parameters)[1]
        return rows

    def arrays(self) -> Arrays:
        """Rotation, centroids and codebooks, and the inverted lists: sizes [L], ids [N] and codes [N, M]."""
        rotation, lists = faiss.downcast_VectorTransform(self.structure.chain.at(0)), faiss.downcast_index(self.structure.index)
        return {
            "rotation": values(rotation.A).reshape(rotation.d_out, rotation.d_in),
            "centroids": lists.quantizer.reconstruct_n(0, lists.nlist),
            "codebooks": values(lists.pq.centroids).reshape(self.M, lists.pq.ksub, lists.pq.dsub),
            **lists_of(lists),
        }

    def restored(self, arrays: Arrays) -> Any:
        """The structure from the arrays of `arrays`, [N, ...], checked."""
        padded = self._padded(self.dim)
        nlist = len(arrays.get("sizes", ()))
        check(
            arrays,
            {
                "rotation": (np.float32, (padded, self.dim)),
                "centroids": (np.float32, (nlist, padded)),
                "codebooks": (np.float32, (self.M, 256, padded // self.M)),
                "sizes": (np.int64, (nlist,)),
                "ids": (np.int64, (self.size,)),
                "codes": (np.uint8, (self.size, self.M)),
            },
        )
        check_lists(arrays, self.size)
        structure = self._empty(self.dim, max(nlist, 1))
        rotation, lists = faiss.downcast_VectorTransform(structure.chain.at(0)), faiss.downcast_index(structure.index)
        faiss.copy_array_to_vector(np.ascontiguousarray(arrays["rotation"]).ravel(), rotation.A)
        faiss.copy_array_to_vector(np.ascontiguousarray(arrays["codebooks"]).ravel(), lists.pq.centroids)
        lists.quantizer.add(np.ascontiguousarray(arrays["centroids"]))
        fill_lists(lists, arrays)
        rotation.is_trained = structure.is_trained = True
        structure.ntotal = self.size
        return structure
