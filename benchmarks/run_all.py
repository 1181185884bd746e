"""Which method wins on which data, and at what cost: every row of every experiment, then the tables.

    python benchmarks/run_all.py                        # everything that has no result yet, then docs/results.md
    python benchmarks/run_all.py mathm-synthetic --rows CE "CE + cross" --seeds 1 --device cpu
    python benchmarks/run_all.py acnet-ablations --trial 20    # does every row train? 20 steps of each phase, printed and kept nowhere
    python benchmarks/run_all.py --render               # the tables alone

A finished run is one file under benchmarks/results, and is not run again; one that was stopped goes on from its last checkpoint; one
that failed stands in the table with its error, and is run again with --retry.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import experiment as experiments
import store
from experiment import Experiment, Row
from sbirlib import InputError, Pipeline, build, load
from sbirlib import recipe as recipes
from sbirlib.data.dataset import Dataset
from sbirlib.ensemble import Ensemble
from sbirlib.interfaces import Encoded
from sbirlib.registry import construct
from sbirlib.retrieval.itq import ITQ
from tables import render

RUNS = Path(__file__).parent / "runs"
SAVE_EVERY = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", help=f"by name; all unless given: {', '.join(experiments.names())}")
    parser.add_argument("--rows", nargs="*", help="these rows only, by name")
    parser.add_argument("--seeds", type=int, help="so many seeds, from 0; the experiment's own number unless given")
    parser.add_argument("--device", help="cpu, cuda; the GPU if there is one")
    parser.add_argument("--retry", action="store_true", help="run again what failed")
    parser.add_argument("--trial", type=int, metavar="STEPS", help="only so many steps of each phase, seed 0, printed and kept nowhere")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the trained models, under benchmarks/runs; those that other rows begin with are always kept",
    )
    parser.add_argument("--render", action="store_true", help="only write docs/results.md from what is there")
    given = parser.parse_args()
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    begun = experiments.begun()
    for name in given.experiments or experiments.names():
        found = experiments.read(name)
        wanted = [row for row in found.rows if not given.rows or row.name in given.rows]
        seeds = range(given.seeds or found.seeds)
        todo = [(seed, row) for seed in seeds for row in wanted if given.trial or needed(found, row, seed, retry=given.retry)]
        if given.render or not todo:
            continue
        try:
            data = experiments.data(found)
        except InputError as error:
            print(f"{name}: skipped: {error}")
            continue
        if data.threads == 1:  # drawn, not read: once for all runs
            data = replace(data, reader=Drawn(data.reader))
        if given.trial:
            for row in wanted:
                trial(found, row, given.trial, data, device)
            continue
        print(f"{name}: {data.describe()}; {len(todo)} runs on {device}")
        for seed, row in todo:
            run(found, row, seed, data, device, keep=given.keep or f"{name}/{row.name}" in begun)
    if not given.trial:
        render()


class Drawn:
    """Pictures that were drawn before are not drawn again."""

    def __init__(self, reader: Callable[[int], Image.Image]) -> None:
        self.reader = reader
        self.pictures: dict[int, Image.Image] = {}

    def __call__(self, position: int) -> Image.Image:
        if position not in self.pictures:
            self.pictures[position] = self.reader(position)
        return self.pictures[position]


def needed(found: Experiment, row: Row, seed: int, *, retry: bool) -> bool:
    path = store.place(found.name, row.name, seed)
    return not path.is_file() or (retry and "error" in json.loads(path.read_text(encoding="utf-8")))


def run(found: Experiment, row: Row, seed: int, data: Dataset, device: str, *, keep: bool = False) -> None:
    """One run, from where it stands to its file; its folder goes unless the trained model is to be kept."""
    path, folder = store.place(found.name, row.name, seed), RUNS / found.name / f"{row.name}-{seed}"
    print(f"{found.name}: {row.name}, seed {seed}", flush=True)
    result: dict[str, Any] = {"experiment": found.name, "row": row.name, "seed": seed} | store.circumstances(device)
    begun, started = folder.exists(), time.monotonic()  # a run that goes on does not know how long it took before
    try:
        pipeline = made(found, row, seed, data, device, folder)
        trained = time.monotonic()
        evaluator: Any = pipeline.evaluators[found.evaluator["name"]]
        measured = fused(found, row, seed, data, device) if row.ensemble else pipeline
        queries, gallery = measured.encode(data, role=found.part, device=device)
        values = evaluator.per_query(queries, gallery).values
        kept = ~next(iter(values.values())).isnan()
        result |= {
            "recipe": experiments.portable(pipeline.recipe.tables()),
            "recipe_digest": pipeline.recipe.digest,
            "begin": row.begin,
            "ensemble": dict(zip(row.ensemble, measured.weights.tolist(), strict=True)) if isinstance(measured, Ensemble) else {},
            "pretrained": row.pretrained,
            "data": {
                "name": data.name,
                "split": data.split_name,
                "digest": data.split_digest,
                "part": found.part,
                "queries": len(queries),
                "photos": len(gallery),
            },
            "metrics": {name: float(v[kept].mean()) for name, v in values.items()},
            "also": {kind: construct("evaluator", table).per_query(queries, gallery).means for kind, table in found.also.items()}
            | {asked: asked_again(found, row, seed, asked, pipeline, data, device) for asked in row.asked},
            "queries": {"category": queries.category[kept].tolist()}
            | {n: [round(x, 5) for x in v[kept].tolist()] for n, v in values.items()},
            "codes": of_codes(pipeline, data, evaluator, queries, gallery, found.code_bits, device) if found.code_bits else {},
            "log": logged(folder / "log.jsonl"),
            "seconds": {"training": None if begun else round(trained - started, 1), "measuring": round(time.monotonic() - trained, 1)},
        }
    except Exception as error:
        result["error"] = experiments.portable(f"{type(error).__name__}: {error}")
        traceback.print_exc()
    store.write(path, result)
    if "error" in result:
        return
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    print("  " + ", ".join(f"{name} {value:.4f}" for name, value in result["metrics"].items()), flush=True)


def made(found: Experiment, row: Row, seed: int, data: Dataset, device: str, folder: Path) -> Pipeline:
    """A row's model, ready to be measured: built, begun, trained from where it stands in `folder`, and brought back."""
    pipeline = built(found, row, seed)
    for part, other in row.begin.items():
        pipeline.begin_with(trained_model(experiments.model(found, other), seed), part)
    if row.train and not row.ensemble:
        pipeline.fit(data, out=folder, resume=True, device=device, save_every=SAVE_EVERY, tensorboard=False)
    for part, share in row.pretrained.items():
        pipeline.interpolate(built(found, row, seed), share, part)
    return pipeline


def fused(found: Experiment, row: Row, seed: int, data: Dataset, device: str) -> Ensemble:
    """The trained models of other rows as one, weighed on the validation sketches."""
    models = [load(trained_model(experiments.model(found, other), seed)) for other in row.ensemble]
    return Ensemble.fitted(models, data, device=device)


def trained_model(row: str, seed: int) -> Path:
    """The trained model of EXPERIMENT/ROW."""
    path = RUNS / f"{row}-{seed}" / "checkpoint.safetensors"
    if not path.is_file():
        raise InputError(
            f"the trained model of {row}, seed {seed}, is not under benchmarks/runs: run that row; if it has a result, delete that first"
        )
    return path


def trial(found: Experiment, row: Row, steps: int, data: Dataset, device: str) -> None:
    """Whether a row can be trained, and how quickly: a few steps of each of its phases. Errors stop it."""
    phases = range(len(recipes.read(row.recipe)["phases"]))
    pipeline = built(found, replace(row, settings=row.settings | {f"phases.{i}.steps": steps for i in phases}), 0)
    with tempfile.TemporaryDirectory() as folder:
        pipeline.fit(data, out=folder, device=device, log_every=1, tensorboard=False)
        records = [r for r in logged(Path(folder) / "log.jsonl", points=steps * len(phases)) if "images_per_second" in r]
    paces = [float(np.median([r["images_per_second"] for r in records if r["phase"] == phase])) for phase in phases]
    size = sum(p.numel() for p in pipeline.encoder.parameters())
    print(f"{found.name}: {row.name}: {size:,} parameters; images a second, phase by phase: {', '.join(f'{pace:.0f}' for pace in paces)}")


def built(found: Experiment, row: Row, seed: int, asked: str | None = None) -> Pipeline:
    """A row's recipe with the experiment's settings and its own, measured by the experiment's evaluator alone."""
    tables = recipes.read(row.recipe) | {"evaluators": {found.evaluator["name"]: found.evaluator}}
    return build(tables, **experiments.settings(found, row, asked), seed=seed)


def asked_again(found: Experiment, row: Row, seed: int, asked: str, trained: Pipeline, data: Dataset, device: str) -> dict[str, float]:
    """The same metrics of the same weights, under the settings that `asked` names."""
    pipeline = built(found, row, seed, asked)
    pipeline.encoder.load_state_dict(trained.encoder.state_dict())
    evaluator: Any = pipeline.evaluators[found.evaluator["name"]]
    means: dict[str, float] = evaluator.per_query(*pipeline.encode(data, role=found.part, device=device)).means
    return means


def of_codes(
    pipeline: Pipeline, data: Dataset, evaluator: Any, queries: Encoded, gallery: Encoded, bits: int, device: str
) -> dict[str, float]:
    """The same metrics of codes, in Hamming distance."""
    itq = ITQ(bits=bits).fit(pipeline.embed(data.train.photos, device=device))
    coded = (replace(encoded, vectors=itq.codes(encoded.vectors)) for encoded in (queries, gallery))
    means: dict[str, float] = evaluator.per_query(*coded).means
    return means


def logged(path: Path, points: int = 60) -> list[dict[str, Any]]:
    """A run's log, thinned to what a curve needs."""
    if not path.is_file():
        return []
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return records[:: max(1, len(records) // points)]


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"run_all: {error}") from None
