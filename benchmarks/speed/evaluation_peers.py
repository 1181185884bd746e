"""Retrieval metrics by other libraries, and as public SBIR code often computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

World = tuple[Tensor, Tensor, Tensor, Tensor]  # queries [Q, V], gallery [G, V], labels of queries [Q] and of the gallery [G]


def pml(world: World, k: str | None = None) -> Any:
    """Mean average precision of pytorch-metric-learning: over the whole gallery with k = None; "max_bin_count" stops at the largest class."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    queries, gallery, query_labels, gallery_labels = world
    calculator = AccuracyCalculator(include=("mean_average_precision",), k=k, device=torch.device("cpu"))
    return calculator.get_accuracy(queries, query_labels, gallery, gallery_labels)


def torchmetrics(world: World) -> Any:
    """The four metrics by torchmetrics, of one flat list of query-photo pairs."""
    from torchmetrics.retrieval import RetrievalMAP, RetrievalPrecision

    queries, gallery, query_labels, gallery_labels = world
    scores, relevant = queries @ gallery.T, query_labels[:, None] == gallery_labels
    index = torch.arange(len(queries))[:, None].expand_as(scores).flatten()
    metrics = [RetrievalMAP(), RetrievalMAP(top_k=200), RetrievalPrecision(top_k=100), RetrievalPrecision(top_k=200)]
    return [metric(scores.flatten(), relevant.flatten(), indexes=index) for metric in metrics]


def sorted_hits(world: World) -> Iterator[NDArray[np.bool_]]:
    """Relevance [G] of the ranked gallery for each query: a dense score matrix, then an argsort per query."""
    queries, gallery, query_labels, gallery_labels = (values.numpy() for values in world)
    for row, label in zip(queries @ gallery.T, query_labels, strict=True):
        yield gallery_labels[np.argsort(-row)] == label


def sort_per_query(world: World) -> Any:
    """The four metrics from the precision at every rank."""
    values = []
    for hits in sorted_hits(world):
        precision = hits.cumsum() / np.arange(1, len(hits) + 1)
        in_200 = hits[:200].sum()
        values.append((precision[hits].mean(), (precision[:200] * hits[:200]).sum() / max(in_200, 1), hits[:100].mean(), hits[:200].mean()))
    return np.mean(values, axis=0)


def loop_per_query(world: World) -> Any:
    """Average precision after PASCAL VOC with interpolated precision, computed rank by rank."""
    values = []
    for hits in sorted_hits(world):
        recall, precision = hits.cumsum() / hits.sum(), hits.cumsum() / np.arange(1, len(hits) + 1)
        for rank in range(len(hits) - 1, 0, -1):
            precision[rank - 1] = max(precision[rank - 1], precision[rank])
        values.append((np.diff(recall, prepend=0.0) * precision).sum())
    return np.mean(values)


PEERS: dict[str, Callable[[World], Any] | None] = {
    "pytorch-metric-learning AccuracyCalculator, mean_average_precision alone": pml,
    "the same, only so many neighbours as the largest class": partial(pml, k="max_bin_count"),
    "torchmetrics RetrievalMAP and RetrievalPrecision": torchmetrics if find_spec("torchmetrics") else None,
    "argsort per query": sort_per_query,
    "a loop over all places per query, mAP@all:voc alone": loop_per_query,
}
