"""Full evaluation of a pipeline: metrics with definitions and intervals, class means, and the worst queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoded
from sbirlib.pipeline import Pipeline
from sbirlib.retrieval.evaluators import Category, Classification, Instance
from sbirlib.retrieval.exact.metrics import read_metric
from sbirlib.retrieval.exact.per_query import CLASS, PerQuery
from sbirlib.visual.retrievals import extremes, retrievals_of

NO_CATEGORY = "(none)"  # name of the class of queries without a category


@dataclass(frozen=True)
class Line:
    """One metric of one evaluator: its mean over queries or over classes, its 95 % interval if it has one, and the number of queries left out."""

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
    class_mAP@all ... (..., ...)
    """
    evaluators = {"category": Category(metrics=metrics)} if metrics else pipeline.evaluators
    if not evaluators:
        raise InputError("the recipe has no evaluator: ask for metrics, such as metrics=['mAP@all', 'Prec@100']")
    queries, gallery = pipeline.encode(dataset, split=split, device=device, progress=progress)
    names = pipeline.categories if pipeline.classifies else dataset.select(split).categories
    lines, classes, per_query = [], {}, {}
    for name, evaluator in evaluators.items():
        result = PerQuery(evaluator.per_query(queries, gallery))
        means: dict[int, dict[str, float]] = {}
        if isinstance(evaluator, Category | Instance):
            per_query[name] = result
            means, metrics_of = result.by_class(queries.category), result.averages(queries.category)
        else:
            metrics_of = evaluator.evaluate(queries, gallery)
            means = evaluator.by_class(queries) if isinstance(evaluator, Classification) else {}
        lines += _lines(name, metrics_of, result, queries.category)
        if means:
            classes[name] = {names[c] if c >= 0 else NO_CATEGORY: own for c, own in means.items()}
    return Evaluation(lines, classes, per_query, queries, gallery)


def _lines(evaluator: str, metrics: Mapping[str, float], result: PerQuery, category: Tensor) -> list[Line]:
    """Lines of an evaluator's metrics, with the interval of those that are means of its values per query, of classes `category` [Q]."""
    left_out = result.left_out if result.values else 0
    intervals = result.intervals(category) if result.values and left_out < len(category) else {}
    return [Line(evaluator, name, value, definition(name), intervals.get(name), left_out) for name, value in metrics.items()]


def definition(metric: str) -> str:
    """The definition of a metric of category-level or instance-level retrieval, and of its mean over classes; empty for another's.

    >>> definition("class_Prec@100")
    'mean over classes of the mean over their queries: hits / k, even where the gallery is smaller than k'
    """
    name = metric.removeprefix(CLASS)
    try:
        text = read_metric(name).definition
    except InputError:
        return f"mean over classes of the {name} of each class" if name != metric else ""
    return text if name == metric else f"mean over classes of the mean over their queries: {text}"


def worst_queries(evaluation: Evaluation, dataset: Dataset, *, split: str = "test", rows: int = 10, k: int = 10) -> Image.Image:
    """A picture of the sketches with the lowest value of the first metric, with their k best photos, framed green where relevant."""
    if not evaluation.per_query:
        raise InputError("no evaluator ranks photos query by query, so none is worst: evaluate with 'category' or 'instance'")
    name, result = next(iter(evaluation.per_query.items()))
    values = next(iter(result.values.values()))
    worst = extremes(values, rows)[1]
    return retrievals_of(
        worst, evaluation.queries, evaluation.gallery, dataset.select(split), values=values, instances=name == "instance", k=k
    )
