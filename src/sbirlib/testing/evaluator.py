"""Checks of evaluators."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sbirlib.interfaces import Encoded, Evaluator
from sbirlib.retrieval.exact.per_query import CLASS, PerQuery
from sbirlib.testing.subject import Subject, require, runs, seeded
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
        with runs(subject, case):
            metrics = evaluator.evaluate(*pair)
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
    """Each metric that `per_query` gives has a value [Q] for every query, whose mean, without those left out, is the metric.

    A metric of the same name with the prefix `class_` is the mean over the queries' categories of each category's mean.
    """
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
        of_classes, over_classes = metrics.get(f"{CLASS}{name}"), PerQuery({name: values.double()}).class_means(queries.category)
        for metric, expected in over_classes.items():
            require(
                of_classes is None or abs(expected - of_classes) < 1e-6,
                f"{subject.id}: {metric} is {of_classes}, the mean over classes of the means of their queries is {expected}",
            )


def wins_nothing_by_ties(subject: Subject) -> None:
    """With all scores equal, a metric of ranks is no nearer to its perfect value than the mean of random rankings, over orders of the gallery.

    A metric of ranks stays as it is when all cosines are halved and raised by a half.
    """
    evaluator: Evaluator = subject.make()
    queries, gallery = (encoded(evaluator, count, queries=count == 12, seed=count) for count in (12, 20))
    random, tied = (_mean(evaluator, queries, gallery, scored, orders=40) for scored in (_noise, _tied))
    perfect, plain, lifted = (_mean(evaluator, queries, gallery, scored, orders=1) for scored in (_perfect, _noise, _lifted))
    for name, chance in random.items():
        best, of_ranks = perfect.get(name, chance), abs(lifted.get(name, -1.0) - plain.get(name, 1.0)) < 1e-6
        if name in tied and of_ranks and abs(best - chance) > 0.05:
            share = (tied[name] - chance) / (best - chance)
            require(
                share < 0.3,
                f"{subject.id}: with all scores equal {name} is {tied[name]:.3f}, for random scores {chance:.3f}, for perfect ones {best:.3f}: "
                "ties may not count for the query",
            )


def equals_its_oracle(subject: Subject) -> None:
    """The same metrics as the author's plain loop, `oracle(queries, gallery) -> {metric: float}`."""
    evaluator: Evaluator = subject.make()
    assert subject.oracle is not None
    for seed in range(3):
        queries, gallery = encoded(evaluator, 14, queries=True, seed=seed), encoded(evaluator, 25, queries=False, seed=seed + 10)
        _equal(subject, subject.oracle(queries, gallery), evaluator.evaluate(queries, gallery), "against its oracle")


def _mean(
    evaluator: Evaluator, queries: Encoded, gallery: Encoded, scored: Callable[[Encoded], Encoded], *, orders: int
) -> dict[str, float]:
    """Means of the metrics over orders of the gallery, with vectors that `scored` gives for each."""
    sums: dict[str, float] = {}
    for seed in range(orders):
        with seeded(seed):
            metrics = evaluator.evaluate(scored(queries), scored(gallery[torch.randperm(len(gallery))]))
        sums = {name: sums.get(name, 0.0) + value / orders for name, value in metrics.items()}
    return sums


def _tied(some: Encoded) -> Encoded:
    return _of(some, torch.full_like(some.vectors, some.vectors.shape[-1] ** -0.5), torch.zeros_like)


def _noise(some: Encoded) -> Encoded:
    return _of(some, torch.nn.functional.normalize(torch.randn_like(some.vectors), dim=-1), torch.randn_like)


def _perfect(some: Encoded) -> Encoded:
    """The photo of a query's instance scores highest, then those of its category."""
    labels = [torch.nn.functional.one_hot(values, 20) for values in (some.instance, some.category)]
    vectors = torch.cat(labels, dim=1) * 0.5**0.5
    return _of(
        some,
        vectors[:, None].repeat(1, some.vectors.shape[1], 1) if some.vectors.ndim == 3 else vectors,
        lambda logits: labels[1][:, : logits.shape[1]] * 9.0,
    )


def _lifted(some: Encoded) -> Encoded:
    """The same noise with cosines that are halved and raised by a half."""
    noise = _noise(some)
    return replace(noise, vectors=torch.cat([noise.vectors, torch.ones_like(noise.vectors[..., :1])], dim=-1) * 0.5**0.5)


def _of(some: Encoded, vectors: Tensor, score: Callable[[Tensor], Tensor]) -> Encoded:
    return replace(some, vectors=vectors, logits=None if some.logits is None else score(some.logits))


def _equal(subject: Subject, expected: dict[str, float], metrics: dict[str, float], how: str) -> None:
    require(metrics.keys() == expected.keys(), f"{subject.id}: {how} it gives {sorted(metrics)}, expected {sorted(expected)}")
    for name, value in metrics.items():
        require(abs(value - expected[name]) < 1e-6, f"{subject.id}: {how} {name} is {value}, expected {expected[name]}")


CHECKS = (
    gives_fractions,
    ignores_the_order_of_queries_and_gallery,
    works_in_chunks,
    metrics_are_means_of_their_queries,
    wins_nothing_by_ties,
    equals_its_oracle,
)
