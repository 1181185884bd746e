"""Recall, search time and size of every kind of index beside exact search.

    python -m benchmarks.speed.indexes                                         # 200,000 x 512; minutes
    python -m benchmarks.speed.indexes --photos 20000 --kinds hnsw itq

Gallery: unit vectors around 2,000 random unit centres. Two sets of queries: from the distribution of the gallery, and the same queries
shifted by one random direction, as sketches are shifted from photos. Recall@10 is relative to exact search. Times are for all queries
in one call, each kind and exact search in turns, medians, and for one query alone; the flat index is compared with raw FAISS, for few
queries in one call too. Sizes are the bytes of the saved folder and the part of them that is loaded into memory instead of mapped.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch  # before FAISS, so that both have the same threads (sbirlib.retrieval.indexes)

# isort: split
import faiss
import numpy as np
import torch.nn.functional as F
from torch import Tensor

from benchmarks.speed.timing import processor, seconds
from sbirlib import part
from sbirlib.memory import keep_freed_memory
from sbirlib.retrieval.indexes.base import Index, read_index

DIM, CLUSTERS, SPREAD, SHIFT, K = 512, 2000, 1.0, 1.0, 10
ALONE = 100  # queries that are asked one by one
FEW = (1, 2, 4, 8, 16, 32, 64, 128)  # queries in one call
KINDS = ("flat", "hnsw", "ivfpq", "itq")


def main() -> None:
    options = parse_options()
    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    keep_freed_memory()
    gallery, near, shifted = random_vectors(options.photos, options.queries)
    about = {"dim": DIM, "clusters": CLUSTERS, "spread": SPREAD, "shift": SHIFT, "k": K}
    print(json.dumps({**vars(options), **about, "faiss": faiss.__version__, "processor": processor()}), flush=True)
    raw = faiss.IndexFlatIP(DIM)
    raw.add(gallery.numpy())
    exact = build_index({"name": "flat"}, gallery)
    for kind in options.kinds:
        table = json.loads(kind) if kind.startswith("{") else {"name": kind}
        start = time.perf_counter()
        index = build_index(table, gallery)
        build = time.perf_counter() - start
        result: dict[str, Any] = {"kind": table, "build_s": round(build, 1), **sizes(index, options.photos)}
        for name, queries in (("near", near), ("shifted", shifted)):
            result[name] = search_figures(index, exact, raw if table["name"] == "flat" else None, queries, options.repeats)
        if table["name"] == "flat":
            result["few"] = {str(count): few_figures(index, raw, near[:count], options.repeats) for count in FEW}
        print(json.dumps(result), flush=True)


def search_figures(index: Index, exact: Index, raw: Any, queries: Tensor, repeats: int) -> dict[str, float]:
    """Recall and time of one index for queries [Q, 512], beside raw FAISS where it is given, else beside exact search."""
    own = partial(index.search, queries, K)
    peer = partial(raw.search, queries.numpy(), K) if raw is not None else partial(exact.search, queries, K)
    times = [(seconds(peer), seconds(own)) for _ in range(repeats)]
    ratio = float(np.median([theirs / ours for theirs, ours in times]))
    return {
        "recall@10": round(recall(own()[1], exact.search(queries, K)[1]), 4),
        "times_quicker_than_" + ("raw_faiss" if raw is not None else "flat"): round(ratio, 2),
        "ms_a_query": round(1000 * float(np.median([ours for _, ours in times])) / len(queries), 3),
        "ms_of_one_alone": round(1000 * float(np.median([seconds(partial(index.search, query, K)) for query in queries[:ALONE, None]])), 3),
    }


def few_figures(index: Index, raw: Any, queries: Tensor, repeats: int) -> dict[str, float]:
    """Milliseconds of one call for few queries [Q, 512], and how many times as long raw FAISS takes."""
    times = [(seconds(partial(index.search, queries, K)), seconds(partial(raw.search, queries.numpy(), K))) for _ in range(2 * repeats + 1)]
    return {
        "ms": round(1000 * float(np.median([ours for ours, _ in times])), 2),
        "times_quicker_than_raw_faiss": round(float(np.median([theirs / ours for ours, theirs in times])), 2),
    }


def random_vectors(photos: int, queries: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gallery [G, 512], queries of the same distribution [Q, 512], and the same queries shifted [Q, 512]."""
    generator = torch.Generator().manual_seed(0)
    centres = F.normalize(torch.randn(CLUSTERS, DIM, generator=generator), dim=1)
    shift = SHIFT * F.normalize(torch.randn(1, DIM, generator=generator), dim=1)

    def around(count: int) -> Tensor:
        """Vectors [N, DIM] around random centres."""
        rows: Tensor = centres[torch.randint(CLUSTERS, (count,), generator=generator)]
        return rows.add_(torch.randn(count, DIM, generator=generator), alpha=SPREAD / math.sqrt(DIM))

    gallery, unshifted = F.normalize(around(photos), dim=1), around(queries)
    return gallery, F.normalize(unshifted, dim=1), F.normalize(unshifted + shift, dim=1)


def build_index(table: dict[str, Any], gallery: Tensor) -> Index:
    """Index of the gallery [G, V]."""
    index: Index = part("index", table)
    index.add(gallery, [{"path": f"{i}.jpg"} for i in range(len(gallery))])
    return index


def sizes(index: Index, photos: int) -> dict[str, float]:
    """Bytes a photo: of the saved folder, and of its files that are loaded into memory."""
    with tempfile.TemporaryDirectory() as folder:
        index.save(folder)
        read_index(folder)
        files = {file.name: file.stat().st_size for file in Path(folder).iterdir()}
    loaded = sum(size for name, size in files.items() if not name.startswith("vectors"))
    return {"bytes_on_disk": round(sum(files.values()) / photos, 1), "bytes_in_memory": round(loaded / photos, 1)}


def recall(results: Tensor, expected: Tensor) -> float:
    """Share of the expected ids [Q, k] that are among the results [Q, k]."""
    return float((results[:, :, None] == expected[:, None]).any(1).float().mean())


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--kinds", nargs="*", default=KINDS, help="names, or JSON with options")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


if __name__ == "__main__":
    main()
