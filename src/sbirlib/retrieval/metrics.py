"""Retrieval metrics: one name, one definition, computed exactly and in chunks of queries.

R relevant photos in the gallery, hits: the relevant ones in the top k, precision at a hit: the share of hits down to its place.

DEFINITIONS says what each name means, METRICS how it is computed from a ranking.

Equal scores: `expected` is the mean over all their orders, exactly; the others are in `ranking.settle`. The interpolated metrics have no
closed form for that mean: under `expected` they take equals in gallery order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sbirlib.errors import InputError, nearest
from sbirlib.retrieval.bootstrap import resampled
from sbirlib.retrieval.product import FEWEST, Product
from sbirlib.retrieval.ranking import TIES, Ranking, harmonics, rank, settle
from sbirlib.threads import Job, in_threads


def _precision_sum(ranking: Ranking, k: float) -> Tensor:
    return ranking.precisions(k).sum(1, keepdim=True)


def _interpolated(ranking: Ranking, k: float) -> Tensor:
    highest = ranking.precisions(k).flip(1).cummax(1).values
    return (highest * ranking.places(k).flip(1)).sum(1, keepdim=True) / ranking.relevant.clamp(max=k)


def _precision_at_relevant(ranking: Ranking, k: float) -> Tensor:
    cut = ranking.relevant.clamp(max=k)
    return ranking.hits_in(cut) / cut


MEMORY = 3 * 2**23  # bytes

METRICS: Mapping[str, Callable[[Ranking, float], Tensor]] = {
    "mAP@all": lambda ranking, k: _precision_sum(ranking, k) / ranking.relevant,
    "mAP@all:voc": _interpolated,
    "mAP@k": lambda ranking, k: _precision_sum(ranking, k) / ranking.relevant.clamp(max=k),
    "mAP@k:hits": Ranking.mean_precision,
    "mAP@k:total": lambda ranking, k: _precision_sum(ranking, k) / ranking.relevant,
    "mAP@k:k": lambda ranking, k: _precision_sum(ranking, k) / k,
    "mAP@k:voc": _interpolated,
    "Prec@k": lambda ranking, k: ranking.hits_in(k) / k,
    "Prec@k:min": lambda ranking, k: ranking.hits_in(k) / ranking.relevant.clamp(max=k),
    "Prec@k:zse": _precision_at_relevant,
    "Acc@k": lambda ranking, k: (ranking.hits_in(k) > 0).double(),
}


DEFINITIONS: Mapping[str, str] = {
    "mAP@all": "sum of the precision at each relevant photo / R",
    "mAP@all:voc": "as mAP@all, each precision raised to the highest of those at later hits (SAKE, MATHM, ACNet, ZSE-SBIR)",
    "mAP@k": "sum of the precision at each hit / min(k, R)",
    "mAP@k:hits": "sum of the precision at each hit / hits (sem-pcyc, torchmetrics)",
    "mAP@k:total": "sum of the precision at each hit / R (pytorch-metric-learning)",
    "mAP@k:k": "sum of the precision at each hit / k (Yelamarthi et al.)",
    "mAP@k:voc": "as mAP@k, each precision raised to the highest of those at later hits in the top k",
    "Prec@k": "hits / k, even where the gallery is smaller than k",
    "Prec@k:min": "hits / min(k, R)",
    "Prec@k:zse": "precision at min(k, R) (ZSE-SBIR)",
    "Acc@k": "1 where a relevant photo is in the top k, a tie counting against us; else 0",
}


class Metric(NamedTuple):
    """A metric that has been read: its definition, its formula, its k (infinity for all), and the rule by which it meets ties."""

    definition: str

    formula: Callable[[Ranking, float], Tensor]
    k: float
    ties: str


def read_metric(name: str, ties: str = "expected") -> Metric:
    """A metric by its name.

    >>> read_metric("Prec@100").k
    100.0
    >>> read_metric("map@10")
    Traceback (most recent call last):
        ...
    sbirlib.errors.InputError: there is no metric 'map@10'; did you mean 'mAP@10'? (known: Acc@10, Prec@10, Prec@10:min, ...
    """
    if ties not in TIES:
        raise InputError(f"there is no rule {ties!r} for ties{nearest(ties, TIES)}")
    digits = re.search(r"@([1-9][0-9]*)", name)
    template = name.replace(digits[0], "@k", 1) if digits else name
    if template not in METRICS or (digits is None and "@k" in template):
        k = digits[1] if digits else "100"
        hint = " k counts from 1." if "@0" in name else ""
        raise InputError(f"there is no metric {name!r}{nearest(name, [t.replace('@k', f'@{k}') for t in METRICS])}{hint}")
    if template.startswith("Acc"):
        ties = "pessimistic"
    if template.endswith("voc") and ties == "expected":
        ties = "stable"
    return Metric(DEFINITIONS[template], METRICS[template], float(digits[1]) if digits else torch.inf, ties)


def read_metrics(names: Sequence[str], ties: str = "expected") -> dict[str, Metric]:
    """Metrics by their names, at least one."""
    if not names:
        raise InputError("no metric was asked for; ask for some, such as metrics=['mAP@all', 'Prec@100']")
    return {name: read_metric(name, ties) for name in names}


@dataclass(frozen=True)
class Measured:
    """`values` [Q] of each metric, NaN for a query without a relevant photo."""

    values: dict[str, Tensor]

    @property
    def left_out(self) -> int:
        """How many queries have no relevant photo; they count in no mean."""
        return int(next(iter(self.values.values())).isnan().sum())

    @property
    def means(self) -> dict[str, float]:
        """The mean of each metric over the queries that have a relevant photo."""
        means = {name: float(values.nanmean()) for name, values in self.values.items()}
        if any(mean != mean for mean in means.values()):
            raise InputError("no query has a relevant photo in the gallery: queries and gallery must share labels. Check their split")
        return means

    def by_class(self, category: Tensor) -> dict[int, dict[str, float]]:
        """The means over the queries of each class, of those in `category` [Q] that have a relevant photo."""
        kept = ~next(iter(self.values.values())).isnan()
        return {
            c: {name: float(values[kept & (category == c)].mean()) for name, values in self.values.items()}
            for c in category[kept].unique().tolist()
        }

    def intervals(self, category: Tensor, *, draws: int = 2000) -> dict[str, tuple[float, float]]:
        """The 95 % interval of each mean, by a bootstrap over the classes `category` [Q] and the queries within them."""
        kept = ~next(iter(self.values.values())).isnan()
        rows = {name: resampled(values[kept].numpy()[None], category[kept].numpy(), draws=draws) for name, values in self.values.items()}
        return {name: tuple(np.percentile(means, [2.5, 97.5]).tolist()) for name, means in rows.items()}


def measure(
    queries: Tensor,
    gallery: Tensor,
    query_labels: Tensor,
    gallery_labels: Tensor,
    *,
    metrics: Sequence[str],
    ties: str = "expected",
    memory: int = MEMORY,
) -> Measured:
    """Ranks the gallery [G, V] for each query [Q, S, V] by the largest of its S inner products; relevant is what has the query's label.

    Labels are [Q] and [G]; a negative one is unknown and equals none. Binary codes packed into bytes (uint8) are ranked by Hamming
    distance. The work is done where the vectors are; `memory` bounds its bytes, roughly, and does not change the result.

    >>> query, gallery = torch.tensor([[[1.0]]]), torch.tensor([[0.9], [0.8], [0.8], [0.1]])
    >>> measure(query, gallery, torch.tensor([7]), torch.tensor([7, 7, 1, 1]), metrics=["mAP@all", "Acc@2"]).means
    {'mAP@all': 0.9166666666666666, 'Acc@2': 1.0}

    (The second relevant photo ties with another: (1 + 2/2) / 2 or (1 + 2/3) / 2, and the mean of these is 11/12.)
    """
    read = read_metrics(metrics, ties)
    _check_shapes(queries, gallery, query_labels, gallery_labels)
    queries, gallery = unpacked(queries), unpacked(gallery)
    dtype, device = torch.promote_types(torch.promote_types(queries.dtype, gallery.dtype), torch.float32), gallery.device
    queries, gallery = queries.to(device, dtype), gallery.to(dtype)
    query_labels = query_labels.to(device)
    labels, by_label = gallery_labels.to(device).sort(stable=True)
    first = torch.searchsorted(labels, query_labels)
    relevant = (torch.searchsorted(labels, query_labels, right=True) - first).masked_fill(query_labels < 0, 0)

    values = {name: torch.full((len(queries),), torch.nan, dtype=torch.float64, device=device) for name in read}
    rules = {metric.ties for metric in read.values()}
    by_relevant = relevant.argsort(stable=True)[(relevant == 0).sum() :]  # alike together, so that little is padded
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    each_query = (queries.shape[1] + (queries.shape[1] > 1)) * len(gallery) * dtype.itemsize  # bytes
    buffers = min(threads, 2)  # while one is ranked, the other is filled
    rows = max(1, min(len(by_relevant), max(FEWEST // queries.shape[1], memory // (buffers * each_query))))
    share = memory // 6 // threads // (150 * max(1, int(relevant.max())))  # a ranking takes some 150 bytes for each relevant photo
    few = max(1, min(share, rows))  # that a thread ranks at once
    harmonic = harmonics(len(gallery), device)

    def ranked(some: Tensor, products: Tensor) -> None:
        distances = products.reshape(len(some), queries.shape[1], -1).amin(1) if queries.shape[1] > 1 else products
        columns = first[some, None] + torch.arange(int(relevant[some].max()), device=device)
        columns = by_label.take(columns.clamp_(max=len(gallery) - 1))
        tied = rank(distances, columns, relevant[some, None], harmonic)
        rankings = {rule: settle(tied, rule, distances, columns) for rule in rules}
        for name, metric in read.items():
            values[name][some] = metric.formula(rankings[metric.ties], metric.k).squeeze(1)

    products = cycle([Product(gallery, rows * queries.shape[1]) for _ in range(buffers)])
    with in_threads(threads) as each:
        ranks: list[Job] = []
        for chunk in by_relevant.split(rows) if len(by_relevant) else ():
            scores, tiles = next(products)(-queries[chunk].flatten(0, 1))  # so that the best is first in ascending order
            each([*tiles, *ranks])
            ranks = [partial(ranked, *given) for given in zip(chunk.split(few), scores.split(few * queries.shape[1]), strict=True)]
            if buffers == 1:
                each(ranks)
                ranks = []
        each(ranks)
    return Measured({name: found.cpu() for name, found in values.items()})


def unpacked(vectors: Tensor) -> Tensor:
    """Codes of eight bits a byte, the first bit lowest, as -1 and 1, whose inner product is exactly bits - 2 Hamming; other vectors as they are."""
    if vectors.dtype != torch.uint8:
        return vectors
    bits = vectors[..., None] >> torch.arange(8, dtype=torch.uint8, device=vectors.device) & 1
    return bits.flatten(-2).float() * 2 - 1


def _check_shapes(queries: Tensor, gallery: Tensor, query_labels: Tensor, gallery_labels: Tensor) -> None:
    if queries.ndim != 3 or gallery.ndim != 2 or queries.shape[2] != gallery.shape[1]:
        raise InputError(f"queries [Q, S, V] and a gallery [G, V] were expected, got {list(queries.shape)} and {list(gallery.shape)}")
    for what, vectors, labels in (("queries", queries, query_labels), ("gallery photos", gallery, gallery_labels)):
        if vectors.numel() == 0:
            raise InputError(f"there are no {what} to measure: got vectors {list(vectors.shape)}")
        if labels.shape != vectors.shape[:1] or labels.is_floating_point():
            raise InputError(f"{len(vectors)} {what} need as many integer labels, got {list(labels.shape)} of {labels.dtype}")
