"""Exact evaluation of all queries: products and ranks in chunks of queries, on several threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle

import torch
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.retrieval.exact import fused
from sbirlib.retrieval.exact.metrics import read_metrics
from sbirlib.retrieval.exact.per_query import PerQuery
from sbirlib.retrieval.exact.product import Product
from sbirlib.retrieval.exact.ranking import harmonics, rank, settle
from sbirlib.threads import Job, in_threads

MEMORY = 3 * 2**23  # bytes
ENOUGH = 32  # rows of scores in a chunk, an eighth of a gallery of 512 numbers: with fewer, reading the gallery from memory takes the time
RANKING_BYTES = 150  # that the ranking of a query takes for each relevant photo, roughly


def evaluate_queries(
    queries: Tensor,
    gallery: Tensor,
    query_labels: Tensor,
    gallery_labels: Tensor,
    *,
    metrics: Sequence[str],
    ties: str = "expected",
    memory: int = MEMORY,
) -> PerQuery:
    """Evaluate queries [Q, S, V] against a gallery [G, V]: the score of a photo is the largest of the S inner products.

    Labels are [Q] and [G]; a photo is relevant if it has the query's label; a negative label is unknown and equals none. Binary codes
    packed into bytes (uint8) are ranked by Hamming distance. The work is done on the gallery's device; `memory` bounds its bytes,
    roughly, and does not change the result.

    >>> query, gallery = torch.tensor([[[1.0]]]), torch.tensor([[0.9], [0.8], [0.8], [0.1]])
    >>> evaluate_queries(query, gallery, torch.tensor([7]), torch.tensor([7, 7, 1, 1]), metrics=["mAP@all", "Acc@2"]).means
    {'mAP@all': 0.9166666666666666, 'Acc@2': 1.0}

    (The second relevant photo ties with another: (1 + 2/2) / 2 or (1 + 2/3) / 2, and the mean of these is 11/12.)
    """
    parsed = read_metrics(metrics, ties)
    _check_shapes(queries, gallery, query_labels, gallery_labels)
    queries, gallery = _of_one_type(unpacked(queries), unpacked(gallery))
    relevance = _Relevance.of(query_labels.to(gallery.device), gallery_labels.to(gallery.device))
    values = {name: torch.full((len(queries),), torch.nan, dtype=torch.float64, device=gallery.device) for name in parsed}
    rules = {metric.ties for metric in parsed.values()}
    harmonic = harmonics(len(gallery), gallery.device)

    def evaluate(rows: Tensor, products: Tensor) -> None:
        """Enter the metrics of the queries `rows` [N], from negated products [N * S, G]."""
        distances = products.reshape(len(rows), queries.shape[1], -1).amin(1) if queries.shape[1] > 1 else products
        columns = relevance.columns(rows)
        with_ties = rank(distances, columns, relevance.count[rows, None], harmonic)
        rankings = {rule: settle(with_ties, rule, distances, columns) for rule in rules}
        for name, metric in parsed.items():
            values[name][rows] = metric.formula(rankings[metric.ties], metric.k).squeeze(1)

    fused.load(len(queries) * len(gallery))
    _for_chunks(queries, gallery, relevance, evaluate, memory)
    return PerQuery({name: column.cpu() for name, column in values.items()})


@dataclass(frozen=True)
class _Relevance:
    """The relevant photos of query i are `order[first[i] : first[i] + count[i]]`, with `order` [G], `first` [Q] and `count` [Q]."""

    order: Tensor
    first: Tensor
    count: Tensor

    @classmethod
    def of(cls, query_labels: Tensor, gallery_labels: Tensor) -> _Relevance:
        """From labels [Q] and [G]."""
        labels, order = gallery_labels.sort(stable=True)
        first = torch.searchsorted(labels, query_labels)
        count = (torch.searchsorted(labels, query_labels, right=True) - first).masked_fill(query_labels < 0, 0)
        return cls(order, first, count)

    def columns(self, rows: Tensor) -> Tensor:
        """The relevant photos [N, R] of the queries `rows` [N], with R the largest count; the rest of a row is padding."""
        columns = self.first[rows, None] + torch.arange(int(self.count[rows].max()), device=rows.device)
        return self.order.take(columns.clamp_(max=len(self.order) - 1))


def _for_chunks(queries: Tensor, gallery: Tensor, relevance: _Relevance, evaluate: Callable[[Tensor, Tensor], None], memory: int) -> None:
    """Call `evaluate(rows, products)` for all queries [Q, S, V] with a relevant photo, by chunks of q rows with their negated products [q * S, G].

    With two buffers, half of the threads multiply the next chunk while the other half evaluate the last one.
    """
    rows = relevance.count.argsort(stable=True)[(relevance.count == 0).sum() :]  # similar counts together, so that there is little padding
    if not len(rows):
        return
    draws = queries.shape[1]
    threads = torch.get_num_threads() if gallery.device.type == "cpu" else 1
    buffers = min(threads, 2)
    query_bytes = (draws + (draws > 1)) * len(gallery) * gallery.element_size()
    size = max(1, min(len(rows), max(ENOUGH // draws, memory // (buffers * query_bytes))))
    part = max(1, min(memory // 6 // threads // (RANKING_BYTES * int(relevance.count.max())), size))  # rows that one thread ranks at once
    products = cycle([Product(gallery, size * draws) for _ in range(buffers)])
    with in_threads(threads) as run:
        pending: list[Job] = []
        for chunk in rows.split(size):
            scores, tiles = next(products)(-queries[chunk].flatten(0, 1))  # negated, so that the best is first in ascending order
            run([*tiles, *pending])
            pending = [partial(evaluate, *pair) for pair in zip(chunk.split(part), scores.split(part * draws), strict=True)]
            if buffers == 1:
                run(pending)
                pending = []
        run(pending)


def unpacked(vectors: Tensor) -> Tensor:
    """Packed codes [N, bits / 8] or [Q, S, bits / 8] (uint8, first bit lowest) as -1 and 1 [N, bits] or [Q, S, bits], whose inner product is
    bits - 2 Hamming; other vectors unchanged."""
    if vectors.dtype != torch.uint8:
        return vectors
    bits = vectors[..., None] >> torch.arange(8, dtype=torch.uint8, device=vectors.device) & 1
    return bits.flatten(-2).float() * 2 - 1


def _of_one_type(queries: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the wider of their types, float32 at least, on the gallery's device."""
    dtype = torch.promote_types(torch.promote_types(queries.dtype, gallery.dtype), torch.float32)
    return queries.to(gallery.device, dtype), gallery.to(dtype)


def _check_shapes(queries: Tensor, gallery: Tensor, query_labels: Tensor, gallery_labels: Tensor) -> None:
    if queries.ndim != 3 or gallery.ndim != 2 or queries.shape[2] != gallery.shape[1]:
        raise InputError(f"queries [Q, S, V] and a gallery [G, V] were expected, got {list(queries.shape)} and {list(gallery.shape)}")
    for side, vectors, labels in (("queries", queries, query_labels), ("gallery photos", gallery, gallery_labels)):
        if vectors.numel() == 0:
            raise InputError(f"there are no {side} to evaluate: got vectors {list(vectors.shape)}")
        if labels.shape != vectors.shape[:1] or labels.is_floating_point():
            raise InputError(f"{len(vectors)} {side} need as many integer labels, got {list(labels.shape)} of {labels.dtype}")
