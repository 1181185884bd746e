"""A model measured in full: every metric with its definition and interval, class by class, and the queries that found least."""

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
from sbirlib.retrieval.metrics import Measured, read_metric
from sbirlib.visual.grid import retrieval_grid


@dataclass(frozen=True)
class Line:
    """One metric of one evaluator: the mean over its queries, its 95 % interval where there is one, and how many queries it leaves out."""

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
    """What was measured, on what vectors. `classes` has each class's means by evaluator and class name."""

    lines: list[Line]
    classes: dict[str, dict[str, dict[str, float]]]
    measured: dict[str, Measured]
    queries: Encoded
    gallery: Encoded

    def tables(self) -> dict[str, Any]:
        """All of it but the vectors, as JSON takes it; `metrics` are the plain values by name."""
        values = {line.metric: line.value for line in self.lines}
        return {"metrics": values, "lines": [asdict(line) for line in self.lines], "classes": self.classes}


def evaluation(
    pipeline: Pipeline,
    dataset: Dataset,
    *,
    metrics: Sequence[str] | None = None,
    role: str = "test",
    device: str | None = None,
    progress: bool = True,
) -> Evaluation:
    """Measure one part of the dataset by the recipe's evaluators, or by these `metrics` of category-level retrieval alone."""
    evaluators = {"category": Category(metrics=metrics)} if metrics else pipeline.evaluators
    if not evaluators:
        raise InputError("the recipe has no evaluator: ask for metrics, such as metrics=['mAP@all', 'Prec@100']")
    queries, gallery = pipeline.encode(dataset, role=role, device=device, progress=progress)
    names = pipeline.categories if pipeline.classifies else dataset.part(role).categories
    lines, classes, every = [], {}, {}
    for name, evaluator in evaluators.items():
        if not isinstance(evaluator, Category | Instance):
            lines += [Line(name, metric, value) for metric, value in evaluator.evaluate(queries, gallery).items()]
            if isinstance(evaluator, Classification):
                classes[name] = {names[c]: found for c, found in evaluator.by_class(queries).items()}
            continue
        every[name] = measured = evaluator.measured(queries, gallery)
        means, intervals = measured.means, measured.intervals(queries.category)
        lines += [Line(name, m, v, read_metric(m).definition, intervals[m], measured.left_out) for m, v in means.items()]
        classes[name] = {names[c]: found for c, found in measured.by_class(queries.category).items()}
    return Evaluation(lines, classes, every, queries, gallery)


def worst_queries(found: Evaluation, dataset: Dataset, *, role: str = "test", rows: int = 10, k: int = 10) -> Image.Image:
    """The sketches with the lowest value of the first metric, each with its k best photos, framed green where they are relevant."""
    if not found.measured:
        raise InputError("no evaluator ranks photos query by query, so none is worst: measure with 'category' or 'instance'")
    name, measured = next(iter(found.measured.items()))
    values = next(iter(measured.values.values()))
    chosen = values.nan_to_num(nan=float("inf")).argsort(stable=True)[: min(rows, len(values) - measured.left_out)]
    part = dataset.part(role)
    sketches, photos = part.sketches, part.photos
    own, theirs = (e.instance if name == "instance" else e.category for e in (found.queries, found.gallery))
    best = [(found.queries.vectors[i] @ found.gallery.vectors.T).amax(0).topk(min(k, len(photos))).indices.tolist() for i in chosen]
    return retrieval_grid(
        [sketches.read(int(i)) for i in chosen],
        [[photos.read(j) for j in row] for row in best],
        [[bool(theirs[j] == own[i]) for j in row] for i, row in zip(chosen, best, strict=True)],
        titles=[f"{part.categories[int(found.queries.category[i])]} {float(values[i]):.3f}" for i in chosen],
    )
