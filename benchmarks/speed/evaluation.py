"""Time and memory of the exact retrieval metrics, beside the matrix product of their scores and beside other libraries.

    python -m benchmarks.speed.evaluation                            # the published sizes; minutes
    python -m benchmarks.speed.evaluation --queries 2400 --peers     # a sample of the queries; torchmetrics if it is installed
    python -m benchmarks.speed.evaluation --plain                    # without the compiled kernel, as where numba is not installed
    python -m benchmarks.speed.evaluation --curve gallery            # times against the size of the gallery, queries, or relevant photos

mAP@all, mAP@200, Prec@100 and Prec@200 in one call, for random unit vectors with random labels; each size has as many classes as the
dataset that it is named after has unseen classes. The product is torch.mm into a reused buffer, with as many rows at once as the
metrics hold in memory; the tiled product is the one that the metrics use. All run in turns in one process. Times are medians; the ratio
is that of metrics and product run one after the other, with quartiles, and that of their best times.
Peers are timed on a sample of the queries, because their time grows linearly with the number of queries.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.speed.evaluation_peers import PEERS, World
from benchmarks.speed.timing import machine, seconds
from sbirlib.memory import keep_freed_memory
from sbirlib.retrieval.exact import fused
from sbirlib.retrieval.exact.evaluate import MEMORY, evaluate_queries
from sbirlib.retrieval.exact.product import Product
from sbirlib.threads import in_threads

SIZES = {"TU-Berlin Extended": (2400, 27_989, 30), "Sketchy Extended": (12_694, 12_553, 25)}  # queries, gallery, classes
DIM = 512
CURVES = {
    "gallery": (10_000, 30_000, 100_000, 300_000, 1_000_000),
    "queries": (100, 400, 1600, 6400),
    "relevant": (20, 100, 500, 2500),
}
METRICS = ["mAP@all", "mAP@200", "Prec@100", "Prec@200"]


def main() -> None:
    options = parse_options()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    loading = 0.0 if options.plain else seconds(fused.kernel)
    path = "plain" if fused.loaded() is None else "compiled"
    about = {"dim": DIM, "metrics": METRICS, "threads": options.threads, "path": path, **machine()}
    print(
        json.dumps(
            {**about, "numpy": np.__version__, "python": platform.python_version(), "memory": MEMORY, "loading_s": round(loading, 2)}
        )
    )
    if options.curve:
        print_curve(options.curve, options.repeats)
        return
    for name, (queries, gallery, classes) in SIZES.items():
        if options.only not in (None, name):
            continue
        world = random_world(min(queries, options.queries or queries), gallery, classes)
        result = {"size": name, "queries": len(world[0]), "gallery": gallery, **compare_with_product(world, options.repeats)}
        print(json.dumps(result), flush=True)
        if options.peers:
            print_peers(name, world, options.peer_queries)


def print_curve(axis: str, repeats: int) -> None:
    """Time the metrics as one of the sizes grows, and print one JSON line for each."""
    for count in CURVES[axis]:
        sizes = {"queries": 200, "gallery": 20_000, "relevant": 200} | {axis: count}
        queries, gallery, relevant = sizes.values()
        world = random_world(queries, gallery, max(1, gallery // relevant))
        ours(world)
        time = float(np.median([seconds(partial(ours, world)) for _ in range(repeats)]))
        print(json.dumps({"curve": axis, **sizes, "seconds": round(time, 4)}), flush=True)


def print_peers(size: str, world: World, queries: int) -> None:
    """Time every peer on the first queries and print one JSON line for each."""
    sample = (world[0][:queries], world[1], world[2][:queries], world[3])
    own = best_seconds(partial(ours, sample), 5)
    for peer, run in PEERS.items():
        time = best_seconds(partial(run, sample), 1) if run is not None else None
        result = {"size": size, "peer": peer, "queries": queries}
        result |= {"seconds": time and round(time, 3), "times_ours": time and round(time / own, 1)}
        print(json.dumps(result), flush=True)


def random_world(queries: int, gallery: int, classes: int) -> World:
    """Random unit vectors of queries [Q, 512] and gallery [G, 512], and their labels [Q] and [G]."""
    generator = torch.Generator().manual_seed(0)
    vectors = [torch.randn(count, DIM, generator=generator) for count in (queries, gallery)]
    for side in vectors:
        side /= side.norm(dim=1, keepdim=True)  # in place: freed memory would hide what the metrics allocate
    labels = [torch.randint(classes, (count,), generator=generator) for count in (queries, gallery)]
    return vectors[0], vectors[1], labels[0], labels[1]


def compare_with_product(world: World, repeats: int) -> dict[str, object]:
    """Medians and ratios of the times of metrics and products, and the peak memory of the metrics."""
    queries, gallery, *_ = world
    rows = max(2, MEMORY // (len(gallery) * 4))

    def product() -> None:
        for block in queries.split(rows):
            torch.mm(block, gallery.T, out=buffer[: len(block)])

    def tiled() -> None:
        multiply = Product(gallery, rows)
        with in_threads(torch.get_num_threads()) as run:
            for block in queries.split(rows):
                run(multiply(block)[1])

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours(world)  # first, before the buffer of the product is allocated
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    buffer = torch.empty(rows, len(gallery))
    product()
    times = [(seconds(product), seconds(lambda: ours(world)), seconds(tiled)) for _ in range(repeats)]
    low, median, high = np.percentile([metrics / mm for mm, metrics, _ in times], [25, 50, 75]).round(2).tolist()
    of_mm, of_metrics, of_tiled = zip(*times, strict=True)
    return {
        "product_s": round(float(np.median(of_mm)), 3),
        "metrics_s": round(float(np.median(of_metrics)), 3),
        "tiled_product_s": round(float(np.median(of_tiled)), 3),
        "ratio": {"low": low, "median": median, "high": high, "of_best": round(min(of_metrics) / min(of_mm), 2)},
        "peak_beyond_the_vectors_MiB": round(growth / (2**20 if sys.platform == "darwin" else 2**10), 1),
    }


def ours(world: World) -> dict[str, float]:
    """The four metrics by sbirlib."""
    queries, gallery, query_labels, gallery_labels = world
    return evaluate_queries(queries[:, None], gallery, query_labels, gallery_labels, metrics=METRICS).means


def best_seconds(run: Callable[[], object], repeats: int) -> float:
    """Shortest time of several calls."""
    return min(seconds(run) for _ in range(repeats))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, help="number of queries; default: all")
    parser.add_argument("--only", choices=SIZES, help="one size; the peak memory of a second one is hidden by that of the first")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--plain", action="store_true", help="without the compiled kernel")
    parser.add_argument("--curve", choices=CURVES, help="times against one size alone")
    parser.add_argument("--peers", action="store_true", help="also pytorch-metric-learning, torchmetrics, and a sort per query")
    parser.add_argument("--peer-queries", type=int, default=2400)
    return parser.parse_args()


if __name__ == "__main__":
    main()
