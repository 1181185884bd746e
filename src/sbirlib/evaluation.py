"""Full evaluation of a pipeline: metrics with definitions and intervals, class means, and the worst queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoded
from sbirlib.pipeline import Pipeline
from sbirlib.retrieval.evaluators import Category, Classification, Instance
from sbirlib.retrieval.exact.metrics import read_metric
from sbirlib.retrieval.exact.per_query import PerQuery
from sbirlib.visual.grid import retrieval_grid


@dataclass(frozen=True)
class Line:
    """One metric of one evaluator: its mean over queries, its 95 % interval if it has one, and the number of queries left out."""

    evaluator: str
    metric: str
    value: float
    definition: str = ""
    interval: tuple[float, float] | None = None
    left_out: int = 0

    def cells(self) -> list[str]:
        interval = "" if self.interval is None else "{:.4f} to {:.4f}".format(*self.interval)
        return [self.evaluator, self.metric, f"{self.value:.4f}", interval, str(self.left_out), self.definition]


@dataclass(frozen=True)
class Evaluation:
    """The metrics and the vectors they come from.

    `classes` holds the class means by evaluator and class name, `per_query` the values of each query by evaluator.
    """

    lines: list[Line]
    classes: dict[str, dict[str, dict[str, float]]]
    per_query: dict[str, PerQuery]
    queries: Encoded
    gallery: Encoded

    def tables(self) -> dict[str, Any]:
        """All but the vectors and the values of each query, ready for JSON; `metrics` are the plain values by name."""
        values = {line.metric: line.value for line in self.lines}
        return {"metrics": values, "lines": [asdict(line) for line in self.lines], "classes": self.classes}


def evaluation(
    pipeline: Pipeline,
    dataset: Dataset,
    *,
    metrics: Sequence[str] | None = None,
    split: str = "test",
    device: str | None = None,
    progress: bool = True,
) -> Evaluation:
    """Evaluate on one split of the dataset, with the recipe's evaluators, or with these `metrics` of category-level retrieval alone.

    >>> for line in evaluation(pipeline, dataset, metrics=["mAP@all"], progress=False).lines:
    ...     print(line.metric, line.value, line.interval)
    mAP@all ... (..., ...)
    """
    evaluators = {"category": Category(metrics=metrics)} if metrics else pipeline.evaluators
    if not evaluators:
        raise InputError("the recipe has no evaluator: ask for metrics, such as metrics=['mAP@all', 'Prec@100']")
    queries, gallery = pipeline.encode(dataset, split=split, device=device, progress=progress)
    names = pipeline.categories if pipeline.classifies else dataset.select(split).categories
    lines, classes, per_query = [], {}, {}
    for name, evaluator in evaluators.items():
        if not isinstance(evaluator, Category | Instance):
            lines += [Line(name, metric, value) for metric, value in evaluator.evaluate(queries, gallery).items()]
            if isinstance(evaluator, Classification):
                classes[name] = {names[c]: means for c, means in evaluator.by_class(queries).items()}
            continue
        per_query[name] = result = PerQuery(evaluator.per_query(queries, gallery))
        means, intervals = result.means, result.intervals(queries.category)
        lines += [Line(name, m, v, read_metric(m).definition, intervals[m], result.left_out) for m, v in means.items()]
        classes[name] = {names[c]: means for c, means in result.by_class(queries.category).items()}
    return Evaluation(lines, classes, per_query, queries, gallery)


def worst_queries(evaluation: Evaluation, dataset: Dataset, *, split: str = "test", rows: int = 10, k: int = 10) -> Image.Image:
    """A picture of the sketches with the lowest value of the first metric, with their k best photos, framed green where relevant."""
    if not evaluation.per_query:
        raise InputError("no evaluator ranks photos query by query, so none is worst: evaluate with 'category' or 'instance'")
    name, result = next(iter(evaluation.per_query.items()))
    values = next(iter(result.values.values()))
    worst = values.nan_to_num(nan=float("inf")).argsort(stable=True)[: min(rows, len(values) - result.left_out)]
    subset = dataset.select(split)
    sketches, photos = subset.sketches, subset.photos
    own, theirs = (e.instance if name == "instance" else e.category for e in (evaluation.queries, evaluation.gallery))
    queries, gallery = evaluation.queries.vectors, evaluation.gallery.vectors
    best = [(queries[i] @ gallery.T).amax(0).topk(min(k, len(photos))).indices.tolist() for i in worst]
    return retrieval_grid(
        [sketches.read(int(i)) for i in worst],
        [[photos.read(j) for j in row] for row in best],
        [[bool(theirs[j] == own[i]) for j in row] for i, row in zip(worst, best, strict=True)],
        titles=[f"{subset.categories[int(evaluation.queries.category[i])]} {float(values[i]):.3f}" for i in worst],
    )
