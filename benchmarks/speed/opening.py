"""Time to open a saved index, and what its digests add to opening, verification and search.

    python -m benchmarks.speed.opening                                        # 1,000,000 x 512, flat and itq; some minutes
    python -m benchmarks.speed.opening --photos 100000 --kinds flat hnsw ivfpq itq

Vectors are random and of unit length, with a record of path, category and year each. Every time is that of a fresh process that has
imported sbirlib, with the files in the page cache, the median of some; "first" is the first search of one query after opening.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.speed.timing import processor, seconds
from sbirlib import part
from sbirlib.retrieval.indexes.base import Index, read_index
from sbirlib.verification import verify

DIM, BLOCK = 512, 65_536
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["sbirlib.retrieval.indexes.hnsw", "sbirlib.retrieval.indexes.ivfpq", "sbirlib.retrieval.indexes.itq"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--kinds", nargs="+", default=["flat", "itq"])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(json.dumps({**vars(options), "dim": DIM, "processor": processor()}), flush=True)
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            save = seconds(lambda: build(kind, options.photos).save(folder))  # noqa: B023
            times = [measured(folder) for _ in range(options.repeats)]
            whole = sum(file.stat().st_size for file in Path(folder).iterdir())
            print(json.dumps({"kind": kind, "bytes": whole, "build_and_save_s": round(save, 1), **medians(times)}), flush=True)


def build(kind: str, photos: int) -> Index:
    """An index of so many random unit vectors."""
    index: Index = part("index", kind)
    for start in range(0, photos, BLOCK):
        count = min(BLOCK, photos - start)
        vectors = F.normalize(torch.randn(count, DIM, generator=torch.Generator().manual_seed(start)), dim=1)
        index.add(
            vectors,
            [
                {"path": f"photos/{i % 500}/{i}.jpg", "category": f"class {i % 500}", "year": 2000 + i % 25}
                for i in range(start, start + count)
            ],
        )
    return index


def measured(folder: str) -> dict[str, float]:
    """The times of one fresh process."""
    receiver, sender = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=measure, args=(folder, sender))
    process.start()
    times: dict[str, float] = receiver.recv()
    process.join()
    return times


def measure(folder: str, sender: Any) -> None:
    """Send the seconds of each operation."""
    query = F.normalize(torch.randn(1, DIM, generator=torch.Generator().manual_seed(1)), dim=1)
    times = {"open_s": seconds(lambda: read_index(folder, verify=False))}
    index = read_index(folder, verify=False)
    times["first_s"] = seconds(lambda: index.records(index.search(query, 10)[1][0]))
    times["search_s"] = median(seconds(lambda: index.search(query, 10)) for _ in range(5))
    times["filter_s"] = seconds(lambda: index.search(query, 10, {"year": 2007}))
    times["verify_s"] = seconds(lambda: verify(folder))
    sender.send(times)


def medians(times: list[dict[str, float]]) -> dict[str, float]:
    """The median of each time, in seconds."""
    return {name: round(median(row[name] for row in times), 4) for name in times[0]}


if __name__ == "__main__":
    main()
