"""What exact metrics cost beside the matrix product that makes the scores, and beside other libraries, in one run.

    python benchmarks/evaluation.py                            # the published sizes; minutes
    python benchmarks/evaluation.py --queries 2400 --peers     # a sample of the queries; torchmetrics if it is installed

mAP@all, mAP@200, Prec@100 and Prec@200 together, of random unit vectors with random labels, each size as many classes as the data set
it stands for has unseen. The product is torch.mm into a buffer that is used again, in as many rows at once as the metrics have room for;
the tiled product is what the metrics use. They run in turns; times are medians, the ratio is that of metrics and product side by side
with quartiles, and that of the best of each.
Peers get a sample of the queries, as their cost grows with the number of queries, and the ratio is for that sample.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbirlib.memory import keep_freed_memory
from sbirlib.retrieval.exact.evaluate import MEMORY, evaluate_queries
from sbirlib.retrieval.exact.product import Product
from sbirlib.threads import in_threads

SIZES = {"TU-Berlin Extended": (2400, 27_989, 30), "Sketchy Extended": (12_694, 12_553, 25)}
DIM = 512
METRICS = ["mAP@all", "mAP@200", "Prec@100", "Prec@200"]
World = tuple[Tensor, Tensor, Tensor, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, help="so many of the queries; all unless given")
    parser.add_argument("--only", choices=SIZES, help="one of the sizes; the memory of a second one is hidden by that of the first")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peers", action="store_true", help="also pytorch-metric-learning, torchmetrics, and a sort per query")
    parser.add_argument("--peer-queries", type=int, default=2400)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    about = {"dim": DIM, "metrics": METRICS, "threads": given.threads, "processor": processor(), "torch": torch.__version__}
    print(json.dumps({**about, "numpy": np.__version__, "python": platform.python_version(), "memory": MEMORY}))
    for name, (queries, gallery, classes) in SIZES.items():
        if given.only not in (None, name):
            continue
        world = drawn(min(queries, given.queries or queries), gallery, classes)
        print(
            json.dumps({"size": name, "queries": len(world[0]), "gallery": gallery, **beside_the_product(world, given.repeats)}), flush=True
        )
        if given.peers:
            few = (world[0][: given.peer_queries], world[1], world[2][: given.peer_queries], world[3])
            own = best(partial(ours, few), 5)
            for peer, run in PEERS.items():
                seconds = best(partial(run, few), 1) if run is not None else None
                print(
                    json.dumps(
                        {
                            "size": name,
                            "peer": peer,
                            "queries": given.peer_queries,
                            "seconds": seconds and round(seconds, 3),
                            "times_ours": seconds and round(seconds / own, 1),
                        }
                    ),
                    flush=True,
                )


def drawn(queries: int, gallery: int, classes: int) -> World:
    generator = torch.Generator().manual_seed(0)
    vectors = [torch.randn(count, DIM, generator=generator) for count in (queries, gallery)]
    for some in vectors:
        some /= some.norm(dim=1, keepdim=True)  # in place: room that is left free would hide what the metrics take
    labels = [torch.randint(classes, (count,), generator=generator) for count in (queries, gallery)]
    return vectors[0], vectors[1], labels[0], labels[1]


def beside_the_product(world: World, repeats: int) -> dict[str, Any]:
    queries, gallery, *_ = world
    rows = max(2, MEMORY // (len(gallery) * 4))

    def product() -> None:
        for some in queries.split(rows):
            torch.mm(some, gallery.T, out=buffer[: len(some)])

    def tiled() -> None:
        multiply = Product(gallery, rows)
        with in_threads(torch.get_num_threads()) as run:
            for some in queries.split(rows):
                run(multiply(some)[1])

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours(world)  # first, so that nothing has been held for the product yet
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    buffer = torch.empty(rows, len(gallery))
    product()
    times = [(once(product), once(lambda: ours(world)), once(tiled)) for _ in range(repeats)]
    low, median, high = np.percentile([ours / mm for mm, ours, _ in times], [25, 50, 75]).round(2).tolist()
    of_mm, of_ours, of_tiled = zip(*times, strict=True)
    return {
        "product_s": round(float(np.median(of_mm)), 3),
        "metrics_s": round(float(np.median(of_ours)), 3),
        "tiled_product_s": round(float(np.median(of_tiled)), 3),
        "ratio": {"low": low, "median": median, "high": high, "of_best": round(min(of_ours) / min(of_mm), 2)},
        "peak_beyond_the_vectors_MiB": round(grown / (2**20 if sys.platform == "darwin" else 2**10), 1),
    }


def ours(world: World) -> dict[str, float]:
    queries, gallery, query_labels, gallery_labels = world
    return evaluate_queries(queries[:, None], gallery, query_labels, gallery_labels, metrics=METRICS).means


def pml(world: World, k: str | None = None) -> Any:
    """With k = None over the whole gallery, as mAP@all is; "max_bin_count" stops at the largest class."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    queries, gallery, query_labels, gallery_labels = world
    calculator = AccuracyCalculator(include=("mean_average_precision",), k=k, device=torch.device("cpu"))
    return calculator.get_accuracy(queries, query_labels, gallery, gallery_labels)


def torchmetrics(world: World) -> Any:
    from torchmetrics.retrieval import RetrievalMAP, RetrievalPrecision

    queries, gallery, query_labels, gallery_labels = world
    scores, relevant = queries @ gallery.T, query_labels[:, None] == gallery_labels
    index = torch.arange(len(queries))[:, None].expand_as(scores).flatten()
    several = [RetrievalMAP(), RetrievalMAP(top_k=200), RetrievalPrecision(top_k=100), RetrievalPrecision(top_k=200)]
    return [metric(scores.flatten(), relevant.flatten(), indexes=index) for metric in several]


def sorted_hits(world: World) -> Iterator[NDArray[np.bool_]]:
    """For each query which of the gallery, best first, is relevant, as much public SBIR code has it: a dense matrix, then an argsort."""
    queries, gallery, query_labels, gallery_labels = (values.numpy() for values in world)
    for row, label in zip(queries @ gallery.T, query_labels, strict=True):
        yield gallery_labels[np.argsort(-row)] == label


def sort_per_query(world: World) -> Any:
    """Precision at every place."""
    found = []
    for hits in sorted_hits(world):
        precision = hits.cumsum() / np.arange(1, len(hits) + 1)
        in_200 = hits[:200].sum()
        found.append((precision[hits].mean(), (precision[:200] * hits[:200]).sum() / max(in_200, 1), hits[:100].mean(), hits[:200].mean()))
    return np.mean(found, axis=0)


def loop_per_query(world: World) -> Any:
    """As evaluation after PASCAL VOC is often written: each place's precision is raised to the best after it, place by place."""
    found = []
    for hits in sorted_hits(world):
        recall, precision = hits.cumsum() / hits.sum(), hits.cumsum() / np.arange(1, len(hits) + 1)
        for place in range(len(hits) - 1, 0, -1):
            precision[place - 1] = max(precision[place - 1], precision[place])
        found.append((np.diff(recall, prepend=0.0) * precision).sum())
    return np.mean(found)


PEERS: dict[str, Callable[[World], Any] | None] = {
    "pytorch-metric-learning AccuracyCalculator, mean_average_precision alone": pml,
    "the same, only so many neighbours as the largest class": partial(pml, k="max_bin_count"),
    "torchmetrics RetrievalMAP and RetrievalPrecision": torchmetrics if find_spec("torchmetrics") else None,
    "argsort per query": sort_per_query,
    "a loop over all places per query, mAP@all:voc alone": loop_per_query,
}


def once(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def best(run: Callable[[], Any], repeats: int) -> float:
    return min(once(run) for _ in range(repeats))


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), platform.processor())
    except OSError:
        return platform.processor()


if __name__ == "__main__":
    main()
