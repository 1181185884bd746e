"""A run: training and evaluation of one row of an experiment with one seed, and its result."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.experiments import definition, pictures, store
from benchmarks.experiments.definition import Experiment, Row
from benchmarks.experiments.folders import FOLDERS
from benchmarks.experiments.interventions import intervention
from sbirlib import InputError, Pipeline, build, load, part, recipe_file
from sbirlib.data.dataset import Dataset
from sbirlib.ensemble import Ensemble
from sbirlib.interfaces import Encoded
from sbirlib.processes import rank, wait, world_size
from sbirlib.retrieval.exact.per_query import PerQuery
from sbirlib.retrieval.itq import ITQ

SAVE_EVERY = 50


class ImageCache:
    """Reader of synthetic images that renders each one once."""

    def __init__(self, reader: Callable[[int], Image.Image]) -> None:
        self.reader = reader
        self.images: dict[int, Image.Image] = {}

    def __call__(self, position: int) -> Image.Image:
        if position not in self.images:
            self.images[position] = self.reader(position)
        return self.images[position]


def pending(experiment: Experiment, rows: list[Row], seeds: range, *, retry: bool) -> list[tuple[int, Row]]:
    """Runs without a result, by seed; with `retry`, failed ones too."""
    results = {(run["row"], run["seed"]): run for run in store.read(experiment.name)}
    finished = {key for key, run in results.items() if not (retry and "error" in run)}
    return [
        (seed, row)
        for seed in seeds
        for row in rows
        if (row.name, seed) not in finished and (not row.folds or seed % experiment.folds in row.folds)
    ]


def run(experiment: Experiment, row: Row, seed: int, data: Dataset, device: str, *, keep: bool = False) -> None:
    """Execute one run from its last checkpoint and store its result or its error; its folder is removed unless `keep`."""
    folder = FOLDERS.runs / experiment.name / f"{row.name}-{seed}"
    print(f"{experiment.name}: {row.name}, seed {seed}", flush=True)
    result: dict[str, Any] = {"experiment": experiment.name, "row": row.name, "seed": seed} | store.environment(device)
    resumed, start = folder.exists(), time.monotonic()
    try:
        if experiment.probe:
            trained_at = start
            result |= probe(experiment, row, seed, data)
        else:
            pipeline = train(experiment, row, seed, data, device, folder)
            trained_at = time.monotonic()
            result |= evaluate(experiment, row, seed, data, device, pipeline)
        result |= {
            "processes": world_size(),
            "log": read_log(folder / "log.jsonl"),
            "seconds": {
                "training": None if resumed else round(trained_at - start, 1),  # the time before an interruption is unknown
                "measuring": round(time.monotonic() - trained_at, 1),
            },
        }
    except Exception as error:
        result["error"] = definition.portable(f"{type(error).__name__}: {error}")
        traceback.print_exc()
    if rank() == 0:
        store.write(result)
        if not keep and "error" not in result:
            shutil.rmtree(folder, ignore_errors=True)
    wait()
    if "error" in result:
        return
    print("  " + ", ".join(f"{name} {value:.4f}" for name, value in result["metrics"].items()), flush=True)


def probe(experiment: Experiment, row: Row, seed: int, data: Dataset) -> dict[str, Any]:
    """Settings, data, metrics and per-query values that the experiment's probe measures for a row."""
    measure = import_module(f"benchmarks.experiments.probes.{experiment.probe}").measure
    settings = definition.expand(experiment.settings | row.settings)
    values, category = measure(data, part=experiment.evaluate_on, seed=seed, **settings)
    return {
        "settings": definition.portable(settings),
        "data": of_data(experiment, data, len(category), len(data.test.photos)),
        **of_values(values, np.asarray(category)),
        "also": {},
        "codes": {},
    }


def of_data(experiment: Experiment, data: Dataset, queries: int, photos: int) -> dict[str, Any]:
    """Name, split and digest of the data of a run, and the numbers of queries and photos."""
    name = {"name": data.name, "split": data.split_name, "digest": data.split_digest, "part": experiment.evaluate_on}
    return name | {"queries": queries, "photos": photos}


def of_values(values: Mapping[str, Any], category: NDArray[np.int64]) -> dict[str, Any]:
    """Metrics and the values of the valid queries, of values [Q] by metric and the category [Q].

    Values are rounded to 5 digits: that is enough for their means.
    """
    values = {name: np.asarray(v, dtype=np.float64) for name, v in values.items()}
    valid = ~np.isnan(next(iter(values.values())))
    rounded = {name: [round(x, 5) for x in v[valid].tolist()] for name, v in values.items()}
    return {
        "metrics": {name: float(v[valid].mean()) for name, v in values.items()},
        "queries": {"category": category[valid].tolist()} | rounded,
    }


def train(experiment: Experiment, row: Row, seed: int, data: Dataset, device: str, folder: Path) -> Pipeline:
    """Build, initialise and train the pipeline of a row, resuming from `folder`."""
    pipeline = pipeline_of(experiment, row, seed)
    for module, source in row.warm_start.items():
        pipeline.warm_start(trained_model(definition.model_name(experiment, source), seed), module)
    if row.train and not row.ensemble:
        with intervention(row.intervention, pipeline):
            pipeline.fit(data, out=folder, resume=True, device=device, save_every=SAVE_EVERY, tensorboard=False)
    for module, share in row.pretrained.items():
        pipeline.interpolate(pipeline_of(experiment, row, seed), share, module)
    return pipeline


def evaluate(experiment: Experiment, row: Row, seed: int, data: Dataset, device: str, pipeline: Pipeline) -> dict[str, Any]:
    """Recipe, data, metrics and per-query values of a trained pipeline, or of the ensemble that the row names."""
    evaluator: Any = pipeline.evaluators[experiment.evaluator["name"]]
    model = ensemble(experiment, row, seed, data, device) if row.ensemble else pipeline
    queries, gallery = model.encode(data, split=experiment.evaluate_on, device=device)
    values = evaluator.per_query(queries, gallery)
    if seed == 0:
        pictures.draw(experiment, row, data, queries, gallery, next(iter(values.values())))
    variants = {variant: evaluate_variant(experiment, row, seed, variant, pipeline, data, device) for variant in row.variants}
    return {
        "recipe": definition.portable(pipeline.recipe.tables()),
        "recipe_digest": pipeline.recipe.digest,
        "begin": row.warm_start,  # keys as in the committed results
        "ensemble": dict(zip(row.ensemble, model.weights.tolist(), strict=True)) if isinstance(model, Ensemble) else {},
        "pretrained": row.pretrained,
        "data": of_data(experiment, data, len(queries), len(gallery)),
        **of_values(values, queries.category.numpy()),
        "also": {kind: PerQuery(part("evaluator", table).per_query(queries, gallery)).means for kind, table in experiment.also.items()}
        | variants,
        "codes": evaluate_codes(pipeline, data, evaluator, queries, gallery, experiment.code_bits, device) if experiment.code_bits else {},
    }


def evaluate_variant(
    experiment: Experiment, row: Row, seed: int, variant: str, pipeline: Pipeline, data: Dataset, device: str
) -> dict[str, float]:
    """Metrics of the same weights under the settings of a variant."""
    other = pipeline_of(experiment, row, seed, variant)
    other.encoder.load_state_dict(pipeline.encoder.state_dict())
    evaluator: Any = other.evaluators[experiment.evaluator["name"]]
    means: dict[str, float] = PerQuery(evaluator.per_query(*other.encode(data, split=experiment.evaluate_on, device=device))).means
    return means


def evaluate_codes(
    pipeline: Pipeline, data: Dataset, evaluator: Any, queries: Encoded, gallery: Encoded, bits: int, device: str
) -> dict[str, float]:
    """Metrics of binary codes (ITQ) under the Hamming distance."""
    itq = ITQ(bits=bits).fit(pipeline.encode_images(data.train.photos, device=device))
    codes = (replace(encoded, vectors=itq.codes(encoded.vectors)) for encoded in (queries, gallery))
    means: dict[str, float] = PerQuery(evaluator.per_query(*codes)).means
    return means


def ensemble(experiment: Experiment, row: Row, seed: int, data: Dataset, device: str) -> Ensemble:
    """Ensemble of the trained models of other rows, weighted on the validation sketches."""
    models = [load(trained_model(definition.model_name(experiment, member), seed)) for member in row.ensemble]
    return Ensemble.fit(models, data, device=device)


def trained_model(row: str, seed: int) -> Path:
    """Checkpoint of EXPERIMENT/ROW; InputError where it was not kept."""
    path = FOLDERS.runs / f"{row}-{seed}" / "checkpoint.safetensors"
    if not path.is_file():
        raise InputError(
            f"the trained model of {row}, seed {seed}, is not under benchmarks/runs: run that row; if it has a result, delete that first"
        )
    return path


def trial(experiment: Experiment, row: Row, steps: int, data: Dataset, device: str) -> None:
    """Train a few steps of each phase of a row and print its size and speed; an error propagates."""
    phases = range(len(recipe_file.read(row.recipe)["phases"]))
    pipeline = pipeline_of(experiment, replace(row, settings=row.settings | {f"phases.{i}.steps": steps for i in phases}), 0)
    with tempfile.TemporaryDirectory() as folder:
        pipeline.fit(data, out=folder, device=device, log_every=1, tensorboard=False)
        if rank() > 0:
            return
        records = [r for r in read_log(Path(folder) / "log.jsonl", points=steps * len(phases)) if "images_per_second" in r]
    rates = [float(np.median([r["images_per_second"] for r in records if r["phase"] == phase])) for phase in phases]
    size = sum(p.numel() for p in pipeline.encoder.parameters())
    print(f"{experiment.name}: {row.name}: {size:,} parameters; images a second by phase: {', '.join(f'{rate:.0f}' for rate in rates)}")


def pipeline_of(experiment: Experiment, row: Row, seed: int, variant: str | None = None) -> Pipeline:
    """Untrained pipeline of a row's recipe, with its settings and the evaluator of the experiment."""
    tables = recipe_file.read(row.recipe) | {"evaluators": {experiment.evaluator["name"]: experiment.evaluator}}
    return build(tables, **definition.settings(experiment, row, variant), seed=seed)


def read_log(path: Path, points: int = 60) -> list[dict[str, Any]]:
    """Records of a training log, thinned to about `points`; none where there is no log."""
    if not path.is_file():
        return []
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return records[:: max(1, len(records) // points)]
