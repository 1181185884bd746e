"""Evaluators: category-level retrieval, instance-level retrieval, classification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import Encoded
from sbirlib.retrieval.exact.evaluate import MEMORY, evaluate_queries
from sbirlib.retrieval.exact.metrics import read_metrics
from sbirlib.retrieval.exact.per_query import PerQuery


class Category:
    """Category-level retrieval: a photo is relevant if it is of the query's category. Metric names are those of `retrieval.exact.metrics`.

    Works with any encoder; needs categories. `queries_left_out` is reported when some query's category has no photo in the gallery.
    `memory` bounds the bytes in use at once; it does not change the result.

    >>> Category(metrics=["mAP@all"]).evaluate(sketches, photos)
    {'mAP@all': 0.3312}
    """

    memory = MEMORY

    def __init__(self, *, metrics: Sequence[str] = ("mAP@all", "Prec@100"), ties: str = "expected") -> None:
        read_metrics(metrics, ties)
        self.metrics, self.ties = metrics, ties

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        return _report(self.per_query(queries, gallery))

    def per_query(self, queries: Encoded, gallery: Encoded) -> PerQuery:
        """The metrics of each query."""
        labels = queries.category, gallery.category
        return evaluate_queries(queries.vectors, gallery.vectors, *labels, metrics=self.metrics, ties=self.ties, memory=self.memory)


class Instance:
    """Instance-level (fine-grained) retrieval: only photos of the query's own instance are relevant, and Acc@k counts a tie as a miss.

    Ranks `all` photos, or those of the query's own `category`; needs instances. `queries_left_out` is reported when some query's
    photo is not in the gallery.

    >>> Instance(metrics=["Acc@1"], gallery="category").evaluate(sketches, photos)
    {'Acc@1': 0.21}
    """

    memory = MEMORY

    def __init__(self, *, metrics: Sequence[str] = ("Acc@1", "Acc@5", "Acc@10"), gallery: Literal["all", "category"] = "all") -> None:
        if gallery not in ("all", "category"):
            raise InputError(f"gallery is which photos to rank, got {gallery!r}{nearest(gallery, ('all', 'category'))}")
        read_metrics(metrics)
        self.metrics, self.gallery = metrics, gallery

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        return _report(self.per_query(queries, gallery))

    def per_query(self, queries: Encoded, gallery: Encoded) -> PerQuery:
        """The metrics of each query."""
        if self.gallery == "all":
            return self._evaluate(queries, gallery)
        values = {name: torch.full((len(queries),), torch.nan, dtype=torch.float64) for name in self.metrics}
        for category in set(queries.category.tolist()):
            own, photos = queries.category == category, gallery.category == category
            if photos.any():
                for name, column in self._evaluate(queries[own], gallery[photos]).values.items():
                    values[name][own] = column
        return PerQuery(values)

    def _evaluate(self, queries: Encoded, gallery: Encoded) -> PerQuery:
        labels = queries.instance, gallery.instance
        return evaluate_queries(queries.vectors, gallery.vectors, *labels, metrics=self.metrics, memory=self.memory)


class Classification:
    """Classification of the queries by their logits [Q, C]: accuracy, its mean over classes, and the mean over classes of the AP.

    The AP of a class ranks all queries by the class's probability. Needs a recipe with a classifier (a loss with `logits`).

    >>> Classification().evaluate(sketches, photos)
    {'accuracy': 0.75, 'class_accuracy': 0.70, 'class_AP': 0.81}
    """

    needs = frozenset({"logits"})
    memory = MEMORY

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        right = self.per_query(queries, gallery).values["accuracy"]
        classes = self.by_class(queries).values()
        means = {f"class_{name}": sum(metrics[name] for metrics in classes) / len(classes) for name in ("accuracy", "AP")}
        return {"accuracy": float(right.mean()), **means}

    def by_class(self, queries: Encoded) -> dict[int, dict[str, float]]:
        """The accuracy and AP of each class."""
        logits, category = self._logits(queries), queries.category
        right = (logits.argmax(1) == category).double()
        classes = torch.tensor(sorted(set(category.tolist())))
        one_hot = torch.eye(logits.shape[1], dtype=torch.float64)[classes, None]
        per_class = evaluate_queries(one_hot, logits.double().softmax(1), classes, category, metrics=["mAP@all"], memory=self.memory)
        precision = per_class.values["mAP@all"].tolist()
        return {c: {"accuracy": float(right[category == c].mean()), "AP": ap} for c, ap in zip(classes.tolist(), precision, strict=True)}

    def per_query(self, queries: Encoded, gallery: Encoded) -> PerQuery:
        """The accuracy of each query: 1 where the most probable category is the right one, else 0."""
        return PerQuery({"accuracy": (self._logits(queries).argmax(1) == queries.category).double()})

    def _logits(self, queries: Encoded) -> Tensor:
        """The logits [Q, C], checked against the categories."""
        if queries.logits is None:
            raise InputError("classification needs logits: give the recipe a loss that classifies, such as losses=['cross_entropy']")
        least, most, count = int(queries.category.min()), int(queries.category.max()), queries.logits.shape[1]
        if least < 0 or most >= count:
            raise InputError(f"categories 0 to {count - 1} have logits, got {least} to {most}: classify categories that were trained")
        return queries.logits


def chance(queries: Encoded, gallery: Encoded) -> dict[str, float]:
    """Category's mAP@all and Prec@100 of a random ranking, exactly: their expectation where all photos tie."""
    blank = torch.zeros(len(queries), 1, 1), torch.zeros(len(gallery), 1)
    return evaluate_queries(*blank, queries.category, gallery.category, metrics=["mAP@all", "Prec@100"]).means


def _report(result: PerQuery) -> dict[str, float]:
    """The means, and `queries_left_out` if there are any."""
    return result.means | ({"queries_left_out": float(result.left_out)} if result.left_out else {})
