"""Checks of evaluators."""

from __future__ import annotations

import tracemalloc
from typing import Any

import torch

from sbirlib.interfaces import Encoded, Evaluator
from sbirlib.testing.subject import CheckFailed, Subject, require, seeded
from sbirlib.testing.world import largest

CATEGORIES = 4
COUNTS = "_left_out"  # metrics are fractions, but for counts of queries left out


def encoded(evaluator: Evaluator, count: int, *, queries: bool, seed: int, dim: int = 8) -> Encoded:
    """Random vectors, two a query; of unit length and one a query where it needs cosines. Sketches and photos share their instances."""
    cosines = "cosines" in evaluator.needs
    with seeded(seed):
        vectors = torch.randn((count, 1 if cosines else 2, dim) if queries else (count, dim))
        instance = torch.randperm(count)
        return Encoded(
            torch.nn.functional.normalize(vectors, dim=-1) if cosines else vectors,
            torch.full((count,), int(not queries)),
            instance % CATEGORIES,
            instance,
            logits=torch.randn(count, CATEGORIES) if queries else None,
        )


def gives_fractions(subject: Subject) -> None:
    """Every metric is a share in [0, 1], or a cosine or a difference of two, on any data; a name that ends in `_left_out` counts."""
    evaluator = subject.make()
    queries, gallery = encoded(evaluator, 12, queries=True, seed=0), encoded(evaluator, 20, queries=False, seed=1)
    for case, pair in {
        "random vectors": (queries, gallery),
        "ties": (_tied(queries), _tied(gallery)),
        "a gallery of one photo": (queries, gallery[gallery.instance == queries.instance[0]]),
        "one query": (queries[:1], gallery),
        "a category without a photo": (queries, gallery[gallery.category != queries.category[0]]),
    }.items():
        try:
            metrics = evaluator.evaluate(*pair)
        except Exception as error:
            raise CheckFailed(f"{subject.id}: with {case} it raises {type(error).__name__}: {error}") from error
        require(bool(metrics), f"{subject.id}: with {case} it gives no metric")
        for name, value in metrics.items():
            right = isinstance(value, float) and (-2 <= value <= 2 or (name.endswith(COUNTS) and value >= 0))
            require(right, f"{subject.id}: with {case} {name} is {value!r}, expected a share in [0, 1]")


def ignores_the_order_of_queries_and_gallery(subject: Subject) -> None:
    evaluator = subject.make()
    queries, gallery = encoded(evaluator, 30, queries=True, seed=0), encoded(evaluator, 40, queries=False, seed=1)
    expected = evaluator.evaluate(queries, gallery)
    for seed in range(5):  # a coarse metric may be the same once by luck
        with seeded(seed):
            shuffled = evaluator.evaluate(queries[torch.randperm(len(queries))], gallery[torch.randperm(len(gallery))])
        _equal(subject, expected, shuffled, "shuffled")


def works_in_chunks(subject: Subject) -> None:
    """With the attribute `memory` (bytes) made small the result is the same, and no tensor or array of all Q x G scores is made."""
    evaluator: Any = subject.make()
    queries, gallery = encoded(evaluator, 256, queries=True, seed=0), encoded(evaluator, 512, queries=False, seed=1)
    expected = evaluator.evaluate(queries, gallery)
    if evaluator.memory is not None:
        evaluator.memory = 2**16
    _equal(subject, expected, evaluator.evaluate(queries, gallery), "in chunks")
    most = largest(lambda: evaluator.evaluate(queries, gallery))
    tracemalloc.start()  # by itself: the first dispatch mode of a process imports megabytes of torch
    evaluator.evaluate(queries, gallery)
    arrays = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = 4 * len(queries) * len(gallery)
    require(
        max(most, arrays) < whole,
        f"{subject.id}: for {len(queries)} queries and {len(gallery)} photos it takes {max(most, arrays)} bytes at once: go by chunks of queries",
    )


def metrics_are_means_of_their_queries(subject: Subject) -> None:
    """Each metric that `per_query` gives has a value [Q] for every query, whose mean, without those left out, is the metric."""
    evaluator: Evaluator = subject.make()
    queries, gallery = encoded(evaluator, 14, queries=True, seed=0), encoded(evaluator, 25, queries=False, seed=1)
    metrics = evaluator.evaluate(queries, gallery)
    for name, values in evaluator.per_query(queries, gallery).items():
        require(
            tuple(values.shape) == (len(queries),), f"{subject.id}: {name} per query is {list(values.shape)}, expected {[len(queries)]}"
        )
        mean = float(values.double().nanmean())
        require(
            abs(mean - metrics.get(name, float("nan"))) < 1e-6, f"{subject.id}: {name} is {metrics.get(name)}, its queries' mean is {mean}"
        )


def equals_its_oracle(subject: Subject) -> None:
    """The same metrics as the author's plain loop, `oracle(queries, gallery) -> {metric: float}`."""
    evaluator: Evaluator = subject.make()
    assert subject.oracle is not None
    for seed in range(3):
        queries, gallery = encoded(evaluator, 14, queries=True, seed=seed), encoded(evaluator, 25, queries=False, seed=seed + 10)
        _equal(subject, subject.oracle(queries, gallery), evaluator.evaluate(queries, gallery), "against its oracle")


def _tied(some: Encoded) -> Encoded:
    return Encoded(torch.full_like(some.vectors, some.vectors.shape[-1] ** -0.5), some.modality, some.category, some.instance, some.logits)


def _equal(subject: Subject, expected: dict[str, float], metrics: dict[str, float], how: str) -> None:
    require(metrics.keys() == expected.keys(), f"{subject.id}: {how} it gives {sorted(metrics)}, expected {sorted(expected)}")
    for name, value in metrics.items():
        require(abs(value - expected[name]) < 1e-6, f"{subject.id}: {how} {name} is {value}, expected {expected[name]}")


CHECKS = (gives_fractions, ignores_the_order_of_queries_and_gallery, works_in_chunks, metrics_are_means_of_their_queries, equals_its_oracle)
