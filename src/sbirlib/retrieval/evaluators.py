"""Evaluators: category-level retrieval, instance-level retrieval, classification.

Each gives the mean of a metric over queries, "mAP@all", and its mean over classes, "class_mAP@all": the mean over classes of the mean over
the class's queries that have a relevant photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import MinLen
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.interfaces import Encoded, Evaluator
from sbirlib.retrieval.exact.evaluate import MEMORY, evaluate_queries
from sbirlib.retrieval.exact.metrics import read_metrics
from sbirlib.retrieval.exact.per_query import PerQuery


class Category(Evaluator):
    """Category-level retrieval: a photo is relevant if it is of the query's category. Metric names are those of `retrieval.exact.metrics`.

    Works with any encoder; needs categories. `queries_left_out` is reported when some query's category has no photo in the gallery.
    `memory` bounds the bytes in use at once; it does not change the result.

    Args:
        metrics: names such as "mAP@all", "mAP@200", "Prec@100"; docs/metrics.md defines them
        ties: rank of photos with equal scores: their expectation, stable by place, or the best or worst case

    >>> Category(metrics=["mAP@all"]).evaluate(sketches, photos)
    {'mAP@all': ..., 'class_mAP@all': ...}
    """

    memory = MEMORY

    def __init__(
        self,
        *,
        metrics: Annotated[Sequence[str], MinLen(1)] = ("mAP@all", "Prec@100"),
        ties: Literal["expected", "stable", "optimistic", "pessimistic"] = "expected",
    ) -> None:
        read_metrics(metrics, ties)
        self.metrics, self.ties = metrics, ties

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        return _report(PerQuery(self.per_query(queries, gallery)), queries.category)

    def per_query(self, queries: Encoded, gallery: Encoded) -> dict[str, Tensor]:
        """The metrics of each query [Q], by name."""
        labels = queries.category, gallery.category
        return evaluate_queries(queries.vectors, gallery.vectors, *labels, metrics=self.metrics, ties=self.ties, memory=self.memory).values


class Instance(Evaluator):
    """Instance-level (fine-grained) retrieval: only photos of the query's own instance are relevant, and Acc@k counts a tie as a miss.

    Ranks `all` photos, or those of the query's own `category`; needs instances. `queries_left_out` is reported when some query's
    photo is not in the gallery.

    Args:
        metrics: names such as "Acc@1", "Acc@10"; docs/metrics.md defines them
        gallery: photos to rank for a query, all of them or those of its category

    >>> Instance(metrics=["Acc@1"], gallery="category").evaluate(sketches, photos)
    {'Acc@1': ..., 'class_Acc@1': ...}
    """

    memory = MEMORY

    def __init__(
        self, *, metrics: Annotated[Sequence[str], MinLen(1)] = ("Acc@1", "Acc@5", "Acc@10"), gallery: Literal["all", "category"] = "all"
    ) -> None:
        read_metrics(metrics)
        self.metrics, self.gallery = metrics, gallery

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        return _report(PerQuery(self.per_query(queries, gallery)), queries.category)

    def per_query(self, queries: Encoded, gallery: Encoded) -> dict[str, Tensor]:
        """The metrics of each query [Q], by name."""
        if self.gallery == "all":
            return self._evaluate(queries, gallery)
        values = {name: torch.full((len(queries),), torch.nan, dtype=torch.float64) for name in self.metrics}
        for category in set(queries.category.tolist()):
            own, photos = queries.category == category, gallery.category == category
            if photos.any():
                for name, column in self._evaluate(queries[own], gallery[photos]).items():
                    values[name][own] = column
        return values

    def _evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, Tensor]:
        labels = queries.instance, gallery.instance
        return evaluate_queries(queries.vectors, gallery.vectors, *labels, metrics=self.metrics, memory=self.memory).values


class Classification(Evaluator):
    """Classification of the queries by their logits [Q, C]: accuracy, its mean over classes, and the mean over classes of the AP.

    The AP of a class ranks all queries by the class's probability. Needs a recipe with a classifier (a loss with `logits`).

    >>> sorted(Classification().evaluate(sketches_with_logits, photos))
    ['accuracy', 'class_AP', 'class_accuracy']
    """

    needs = frozenset({"logits"})
    memory = MEMORY

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        right = self.per_query(queries, gallery)["accuracy"]
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

    def per_query(self, queries: Encoded, gallery: Encoded) -> dict[str, Tensor]:
        """The accuracy of each query [Q]: 1 where the most probable category is the right one, else 0."""
        return {"accuracy": (self._logits(queries).argmax(1) == queries.category).double()}

    def _logits(self, queries: Encoded) -> Tensor:
        """The logits [Q, C], checked against the categories."""
        if queries.logits is None:
            raise InputError("classification needs logits: give the recipe a loss that classifies, such as losses=['cross_entropy']")
        least, most, count = int(queries.category.min()), int(queries.category.max()), queries.logits.shape[1]
        if least < 0 or most >= count:
            raise InputError(f"categories 0 to {count - 1} have logits, got {least} to {most}: classify categories that were trained")
        return queries.logits


def chance(queries: Encoded, gallery: Encoded) -> dict[str, float]:
    """Category's metrics of a random ranking, mAP@all and Prec@100, exactly: their expectation where all photos tie."""
    blank = torch.zeros(len(queries), 1, 1), torch.zeros(len(gallery), 1)
    return evaluate_queries(*blank, queries.category, gallery.category, metrics=["mAP@all", "Prec@100"]).averages(queries.category)


def _report(result: PerQuery, category: Tensor) -> dict[str, float]:
    """The means over queries and over the classes `category` [Q], and `queries_left_out` if there are any."""
    return result.averages(category) | ({"queries_left_out": float(result.left_out)} if result.left_out else {})
