"""Comparison of training runs: settings that differ, metrics of their logs, and paired differences on the same queries."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sbirlib import load, sealed
from sbirlib.data.dataset import Dataset
from sbirlib.documents import read_json
from sbirlib.errors import InputError
from sbirlib.interfaces import Evaluator
from sbirlib.pipeline import Pipeline
from sbirlib.retrieval.evaluators import Category
from sbirlib.retrieval.exact.per_query import CLASS, PerQuery
from sbirlib.retrieval.paired import Difference, paired
from sbirlib.training.description import SCHEMA, Description
from sbirlib.visual.curves import Record, read_log

logger = logging.getLogger(__name__)
MODELS = ("model.safetensors", "best.safetensors", "checkpoint.safetensors")  # the first that is there is the run's model
ABSENT = "-"
Over = Literal["queries", "classes"]


@dataclass(frozen=True)
class TrainingRun:
    """A run's folder, as `fit(out=...)` and `sbirlib train` write it: its model with description, and the records of its log.

    `data` is the dataset, split and digest that it was trained on, empty where no file of it says so.
    """

    name: str
    folder: Path
    model: Path
    about: Description
    data: Mapping[str, str]
    records: Sequence[Record]

    @property
    def settings(self) -> dict[str, Any]:
        """Every key of the recipe by its dotted path, and the data."""
        return flat(self.about.recipe) | {f"data.{key}": value for key, value in self.data.items()}

    @property
    def results(self) -> dict[str, float]:
        """Steps, last losses, last validation metrics, and the step and value that validation chose, as far as the log has them."""
        steps = [record for record in self.records if "losses" in record]
        validations = [record["validation"] for record in self.records if "validation" in record]
        losses = {f"loss {name}": value for name, value in steps[-1]["losses"].items()} if steps else {}
        metrics = {f"validation {name}": value for name, value in validations[-1].items()} if validations else {}
        choice = self.about.chosen
        best = {} if choice is None else {"best step": float(choice.step), f"best {choice.metric}": choice.value}
        return {"steps": float(max((r["step"] for r in self.records), default=0)), **losses, **metrics, **best}


@dataclass(frozen=True)
class MetricDifference:
    """The difference of a metric between a run and the first run, paired by query."""

    metric: str
    run: str
    difference: Difference

    def cells(self) -> list[str]:
        """Metric, run, difference, 95 % interval, smallest difference that would have been seen, and a word for it."""
        d = self.difference
        word = "differs" if d.significant else "not decided"
        return [self.metric, self.run, f"{d.mean:+.4f}", f"{d.low:+.4f} to {d.high:+.4f}", f"{d.detectable:.4f}", word]


@dataclass(frozen=True)
class Comparison:
    """Metrics of each run by name, on the same queries, and the differences to the first run."""

    metrics: dict[str, dict[str, float]]
    differences: list[MetricDifference]


def read_run(folder: str | Path, name: str | None = None) -> TrainingRun:
    """Read the descriptions and the log of a run; raises InputError for a folder that is no run. Weights are not read.

    >>> read_run("runs/mathm").settings["phases.0.steps"]
    2
    """
    place = Path(folder)
    models = [place / file for file in MODELS if (place / file).is_file()]
    if not place.is_dir() or not models:
        fault = f"there is no folder {str(place)!r}" if not place.is_dir() else f"{place} holds none of {', '.join(MODELS)}"
        raise InputError(f"{fault}: expected a run, the folder that `sbirlib train --out` or fit(out=...) writes")
    descriptions = [_description(model) for model in models]
    data = next(({"name": d.name, "split": d.split, "digest": d.digest} for about in descriptions if (d := about.data)), {})
    log = place / "log.jsonl"
    return TrainingRun(name or place.name, place, models[0], descriptions[0], data, read_log(log) if log.is_file() else [])


def read_runs(folders: Sequence[str | Path]) -> list[TrainingRun]:
    """Read several runs, named by their folders, or by their paths where two folders have one name."""
    if len(folders) < 2:
        raise InputError(f"a comparison takes two runs or more, got {len(folders)}")
    if twice := [path for path, count in Counter(Path(folder).resolve() for folder in folders).items() if count > 1]:
        raise InputError(f"{twice[0]} is named twice: give each run once")
    names = Counter(Path(folder).resolve().name for folder in folders)
    return [read_run(f, str(f) if names[Path(f).resolve().name] > 1 else Path(f).resolve().name) for f in folders]


def differing_settings(runs: Sequence[TrainingRun]) -> dict[str, list[Any]]:
    """Settings that are not the same in all runs, by dotted path, with the value of each run; "-" where a run has no such key.

    >>> differing_settings([read_run("runs/mathm"), read_run("runs/mathm")])
    {}
    """
    return _table([run.settings for run in runs], keep=lambda values: any(value != values[0] for value in values[1:]))


def results(runs: Sequence[TrainingRun]) -> dict[str, list[Any]]:
    """Results of the logs, by name, with the value of each run; "-" where a run has none."""
    return _table([run.results for run in runs], keep=lambda _: True)


def _table(rows: Sequence[Mapping[str, Any]], *, keep: Any) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name, ABSENT) for row in rows] for name in names}
    return {name: values for name, values in columns.items() if keep(values)}


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Values of nested tables and lists of tables by their dotted paths.

    >>> flat({"phases": [{"steps": 2, "weights": {}}]})
    {'phases.0.steps': 2, 'phases.0.weights': {}}
    """
    tables = isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value)
    items = enumerate(value) if tables else value.items() if isinstance(value, Mapping) and value else None
    if items is None:
        return {path: value}
    return {key: leaf for name, item in items for key, leaf in flat(item, f"{path}.{name}" if path else str(name)).items()}


def compare(
    runs: Sequence[TrainingRun],
    dataset: Dataset,
    *,
    metrics: Sequence[str] | None = None,
    split: str = "test",
    device: str | None = None,
    progress: bool = True,
) -> Comparison:
    """Evaluate the runs' models on one split of the dataset, and compare each with the first, query by query.

    Evaluators are those of the first run, or `metrics` of category-level retrieval. An interval covers other classes and other queries, not
    other seeds. A run that was trained on another split is warned of.

    >>> compare([read_run("runs/mathm"), read_run("runs/mathm")], dataset, progress=False).differences[0].difference.mean
    0.0
    """
    values: dict[str, list[Tensor]] = {}
    evaluators: Mapping[str, Evaluator] = {"category": Category(metrics=metrics)} if metrics else {}
    for run in runs:
        _warn_of_other_data(run, dataset)
        pipeline = load(run.model)
        evaluators = evaluators or pipeline.evaluators
        for name, column in _per_query(pipeline, evaluators, dataset, split=split, device=device, progress=progress).items():
            values.setdefault(name, []).append(column)
    shared = {name: columns for name, columns in values.items() if len(columns) == len(runs)}
    if not shared:
        raise InputError("no evaluator of the first run gives values query by query for all runs: ask for metrics, such as mAP@all")
    category = torch.from_numpy(dataset.select(split).sketches.category)
    table: dict[str, dict[str, float]] = {}
    for name, columns in shared.items():  # apart, for the queries that are left out depend on the evaluator
        for run, column in zip(runs, columns, strict=True):
            for metric, mean in PerQuery({name: column}).averages(category).items():
                table.setdefault(metric, {})[run.name] = mean
    lines = [line for name, columns in shared.items() for line in _differences(name, columns, category, runs)]
    return Comparison(table, lines)


def _per_query(
    pipeline: Pipeline, evaluators: Mapping[str, Evaluator], dataset: Dataset, *, split: str, device: str | None, progress: bool
) -> dict[str, Tensor]:
    """The values [Q] of all metrics that are means over queries; an evaluator whose input the pipeline lacks gives none."""
    queries, gallery = pipeline.encode(dataset, split=split, device=device, progress=progress)
    usable = [e for e in evaluators.values() if "logits" not in e.needs or queries.logits is not None]
    return {name: column for evaluator in usable for name, column in evaluator.per_query(queries, gallery).items()}


def _differences(metric: str, columns: Sequence[Tensor], category: Tensor, runs: Sequence[TrainingRun]) -> list[MetricDifference]:
    """The differences of all runs but the first to the first, over queries and over classes, from values [Q] and categories [Q]."""
    valid = ~columns[0].isnan()
    classes: list[int] = category[valid].tolist()
    both: list[tuple[str, Over]] = [(metric, "queries"), (f"{CLASS}{metric}", "classes")]
    return [
        MetricDifference(name, run.name, paired({0: column[valid].tolist()}, {0: columns[0][valid].tolist()}, classes, over=over))
        for name, over in both
        for run, column in zip(runs[1:], columns[1:], strict=True)
    ]


def _warn_of_other_data(run: TrainingRun, dataset: Dataset) -> None:
    digest = run.data.get("digest")
    if digest is not None and digest != dataset.digest:
        logger.warning(
            "%s was trained on %s, split %s, not on this one: images tested here may have been in its training",
            run.name,
            run.data["name"],
            run.data["split"],
        )


def _description(model: Path) -> Description:
    """The description of a model, without its weights."""
    with sealed.opened(model, "pt") as (_, text):
        if not text:
            raise InputError(f"{str(model)!r} holds no recipe: expected a model that sbirlib saved")
        return read_json(text, SCHEMA, f"the description in {str(model)!r}")
