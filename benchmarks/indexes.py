"""Which index finds how much, how quickly, in how many bytes: every kind beside exact search, on the same vectors, in one run.

    python benchmarks/indexes.py                                         # 200,000 x 512; minutes
    python benchmarks/indexes.py --photos 20000 --kinds hnsw itq

The gallery: unit vectors around 2,000 random unit centres, generator and seed below. Two sets of queries: drawn as the gallery is, and
shifted off it by one random direction, as sketches are from photos. Recall@10 is against exact search; times are for all queries at
once, each kind and exact search in turns, medians; raw FAISS stands beside our flat index. Bytes are those of the saved folder and, of
these, what is not mapped but held in memory.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation import processor
from sbirlib import part
from sbirlib.memory import keep_freed_memory
from sbirlib.retrieval.indexes.base import Index, read_index

DIM, CLUSTERS, SPREAD, SHIFT, K = 512, 2000, 1.0, 1.0, 10
KINDS = ("flat", "hnsw", "ivfpq", "itq")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--kinds", nargs="*", default=KINDS, help="by name, or as JSON with options")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    faiss.omp_set_num_threads(given.threads)
    keep_freed_memory()
    gallery, near, shifted = drawn(given.photos, given.queries)
    about = {
        "dim": DIM,
        "clusters": CLUSTERS,
        "spread": SPREAD,
        "shift": SHIFT,
        "k": K,
        "faiss": faiss.__version__,
        "processor": processor(),
    }
    print(json.dumps({**vars(given), **about}), flush=True)
    raw = faiss.IndexFlatIP(DIM)
    raw.add(gallery.numpy())
    exact: Index = filled({"name": "flat"}, gallery)
    for kind in given.kinds:
        table = json.loads(kind) if kind.startswith("{") else {"name": kind}
        started = time.perf_counter()
        index = filled(table, gallery)
        built = time.perf_counter() - started
        result: dict[str, Any] = {"kind": table, "build_s": round(built, 1), **sizes(index, given.photos)}
        for name, queries in (("near", near), ("shifted", shifted)):
            wanted = exact.search(queries, K)[1]
            own = partial(index.search, queries, K)
            beside = partial(raw.search, queries.numpy(), K) if table["name"] == "flat" else partial(exact.search, queries, K)
            pairs = [(once(beside), once(own)) for _ in range(given.repeats)]
            ratio = float(np.median([theirs / ours for theirs, ours in pairs]))
            result[name] = {
                "recall@10": round(recall(index.search(queries, K)[1], wanted), 4),
                "times_quicker_than_" + ("raw_faiss" if table["name"] == "flat" else "flat"): round(ratio, 2),
                "ms_a_query": round(1000 * float(np.median([ours for _, ours in pairs])) / len(queries), 3),
            }
        print(json.dumps(result), flush=True)


def drawn(photos: int, queries: int) -> tuple[Tensor, Tensor, Tensor]:
    """The gallery, queries drawn as it is, and the same queries shifted."""
    generator = torch.Generator().manual_seed(0)
    centres = F.normalize(torch.randn(CLUSTERS, DIM, generator=generator), dim=1)
    shift = SHIFT * F.normalize(torch.randn(1, DIM, generator=generator), dim=1)

    def around(count: int) -> Tensor:
        rows: Tensor = centres[torch.randint(CLUSTERS, (count,), generator=generator)]
        return rows.add_(torch.randn(count, DIM, generator=generator), alpha=SPREAD / math.sqrt(DIM))

    gallery, asked = F.normalize(around(photos), dim=1), around(queries)
    return gallery, F.normalize(asked, dim=1), F.normalize(asked + shift, dim=1)


def filled(table: dict[str, Any], gallery: Tensor) -> Index:
    index: Index = part("index", table)
    index.add(gallery, [{"path": f"{i}.jpg"} for i in range(len(gallery))])
    return index


def sizes(index: Index, photos: int) -> dict[str, float]:
    """Bytes a photo: of the folder, and of what is held in memory once it is opened."""
    with tempfile.TemporaryDirectory() as folder:
        index.save(folder)
        read_index(folder)
        files = {file.name: file.stat().st_size for file in Path(folder).iterdir()}
    held = sum(size for name, size in files.items() if not name.startswith("vectors"))
    return {"bytes_on_disk": round(sum(files.values()) / photos, 1), "bytes_in_memory": round(held / photos, 1)}


def recall(found: Tensor, wanted: Tensor) -> float:
    """The share of the wanted ids [Q, k] that were found [Q, k]."""
    return float((found[:, :, None] == wanted[:, None]).any(1).float().mean())


def once(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
