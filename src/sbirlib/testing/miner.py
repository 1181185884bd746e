"""Checks of miners."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sbirlib.distance import euclidean
from sbirlib.interfaces import Features, Triplets
from sbirlib.options import options_of
from sbirlib.testing.subject import Subject, require, runs, seeded
from sbirlib.testing.world import Plain, batch, largest, uneven_rows

# promised by the name of a kind: is the positive of the anchor's modality, is the negative (Huang et al. 2022, section 3.2)
MODALITIES = {"cross": (False, False), "within": (True, True), "hybrid": (False, True)}


def rows(**given: Any) -> tuple[Features, Tensor]:
    """Random rows and their distances [N, N]."""
    with seeded(0), torch.no_grad():
        encoder = Plain()
        features = encoder(batch(size=8, **given))
        return features, encoder.distances(features)


def triplets_are_of_their_kind(subject: Subject) -> None:
    """Indices int64 within range; a positive shares the anchor's category and is another row, a negative differs; modalities by name.

    With an option `same_source` set to false, a positive is of another image too, where a batch has two views of each.
    """
    features, distances = rows(categories=4, instances=4)
    _are_of_their_kind(subject, features, _mined(subject, features, distances))
    features, distances = two_views()
    choice: dict[str, Any] = {"same_source": False} if "same_source" in options_of(subject.constructor) else {}
    with seeded(0), torch.no_grad():
        triplets_by_kind: dict[str, Triplets] = subject.make(**choice)(features, distances)
    _are_of_their_kind(subject, features, triplets_by_kind)
    for kind, triplets in triplets_by_kind.items() if choice else ():
        own = features.source[triplets.anchor] == features.source[triplets.positive]
        require(not bool(own.any()), f"{subject.id}: with same_source=False {kind} has a positive of the anchor's own image")


def takes_uneven_batches(subject: Subject) -> None:
    """Thirteen rows, of modalities and categories in unequal shares: triplets of their kind."""
    features, distances = rows()
    some = uneven_rows(features)
    with runs(subject, "a batch of 13 rows in unequal shares"):
        triplets_by_kind = _mined(subject, features[some], distances[some][:, some])
    _are_of_their_kind(subject, features[some], triplets_by_kind)


def two_views() -> tuple[Features, Tensor]:
    """Rows of images and of those that were synthesised from them in the other modality, and their distances [N, N]."""
    features, _ = rows()
    twice = features[torch.arange(len(features)).repeat(2)]
    view = torch.arange(len(twice)) // len(features)
    with seeded(1):
        vector = torch.nn.functional.normalize(twice.vector + 0.1 * view[:, None] * torch.randn_like(twice.vector), dim=1)
    twice = replace(twice, vector=vector, view=view, modality=torch.where(view == 1, 1 - twice.modality, twice.modality))
    return twice, euclidean(twice.vector)


def _are_of_their_kind(subject: Subject, features: Features, triplets_by_kind: dict[str, Triplets]) -> None:
    for kind, triplets in triplets_by_kind.items():
        for name in ("anchor", "positive", "negative"):
            value = getattr(triplets, name)
            right = value.dtype == torch.int64 and value.ndim == 1 and bool(((value >= 0) & (value < len(features))).all())
            require(
                right, f"{subject.id}: {kind}.{name} is {value.dtype} {list(value.shape)}, expected int64 [T] within 0..{len(features) - 1}"
            )
        anchor, positive, negative = (features[getattr(triplets, name)] for name in ("anchor", "positive", "negative"))
        require(bool((triplets.anchor != triplets.positive).all()), f"{subject.id}: {kind} takes an anchor for its own positive")
        require(bool((anchor.category == positive.category).all()), f"{subject.id}: {kind} has a positive of another category")
        other = (anchor.category != negative.category) | (anchor.instance != negative.instance)
        require(bool(other.all()), f"{subject.id}: {kind} has a negative of the anchor's own category and instance")
        if kind in MODALITIES:
            for name, row, same in zip(("positive", "negative"), (positive, negative), MODALITIES[kind], strict=True):
                right = bool(((anchor.modality == row.modality) == same).all())
                require(right, f"{subject.id}: {kind} has a {name} of the {'other' if same else 'same'} modality")


def gives_none_where_none_is_possible(subject: Subject) -> None:
    """One category, one modality, one row, no row: fewer triplets or none, never an exception."""
    features, distances = rows()
    for case, keep in {
        "one category": features.category == 0,
        "sketches alone": features.modality == 0,
        "one row": features.source == 0,
        "no row": features.source < 0,
    }.items():
        some, between = features[keep], distances[keep][:, keep]
        with runs(subject, case):
            triplets_by_kind = _mined(subject, some, between)
        if case != "sketches alone":
            instances = len(some.instance.unique())
            count = sum(len(t) for t in triplets_by_kind.values())
            require(instances > 1 or not count, f"{subject.id}: with {case} it finds {count} triplets, of which none can be right")


def keeps_no_graph(subject: Subject) -> None:
    """Triplets carry no gradient, and the miner holds on to no distances after its call."""
    features, plain = rows()
    leaf = plain.clone().requires_grad_()
    distances = leaf * 1.0
    miner = subject.make()
    with seeded(0):
        triplets_by_kind = miner(features, distances)
    for kind, triplets in triplets_by_kind.items():
        graph = any(getattr(triplets, name).requires_grad for name in ("anchor", "positive", "negative"))
        require(not graph, f"{subject.id}: {kind} carries an autograd graph")
    gone = weakref.ref(distances)
    del distances, triplets_by_kind
    gc.collect()
    require(gone() is None, f"{subject.id}: it keeps the distances, and with them a step's whole graph, after its call")


def takes_memory_of_order_n_squared(subject: Subject) -> None:
    """No tensor of all triplets: for N = 96 the largest has at most 4 x 8 bytes a pair."""
    features, distances = rows(categories=12, instances=4)
    miner, count = subject.make(), len(features)
    with seeded(0), torch.no_grad():
        most = largest(lambda: miner(features, distances))
    require(
        most <= 32 * count**2, f"{subject.id}: it makes a tensor of {most} bytes for {count} rows: choose by rows, not among all triplets"
    )


def equals_its_oracle(subject: Subject) -> None:
    """The same triplets as the author's plain loop, `oracle(features, distances) -> {kind: Triplets or [(a, p, n), ...]}`."""
    for seed in range(3):
        with seeded(seed), torch.no_grad():
            encoder = Plain()
            features = encoder(batch(size=8, instances=3, seed=seed))
        distances = encoder.distances(features).detach()
        triplets_by_kind = _mined(subject, features, distances)
        assert subject.oracle is not None
        expected = subject.oracle(features, distances)
        require(
            triplets_by_kind.keys() == expected.keys(), f"{subject.id}: kinds {sorted(triplets_by_kind)}, the oracle has {sorted(expected)}"
        )
        for kind, triplets in triplets_by_kind.items():
            rows, oracle_rows = _tuples(triplets), _tuples(expected[kind])
            require(rows == oracle_rows, f"{subject.id}: {kind} differs from the oracle, first in {sorted(rows ^ oracle_rows)[:1]}")


def _mined(subject: Subject, features: Features, distances: Tensor) -> dict[str, Triplets]:
    with seeded(0), torch.no_grad():
        triplets_by_kind: dict[str, Triplets] = subject.make()(features, distances)
    return triplets_by_kind


def _tuples(triplets: Any) -> set[tuple[int, int, int]]:
    if isinstance(triplets, Triplets):
        triplets = zip(triplets.anchor.tolist(), triplets.positive.tolist(), triplets.negative.tolist(), strict=True)
    return {tuple(t) for t in triplets}


CHECKS = (
    triplets_are_of_their_kind,
    takes_uneven_batches,
    gives_none_where_none_is_possible,
    keeps_no_graph,
    takes_memory_of_order_n_squared,
    equals_its_oracle,
)
