"""`sbirlib demo`: MATHM trained from scratch on synthetic drawings, and evaluated on unseen categories."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer

from sbirlib.data.dataset import Dataset
from sbirlib.data.synthetic import synthetic
from sbirlib.interfaces import Encoded
from sbirlib.pipeline import Pipeline, build
from sbirlib.retrieval.evaluators import chance
from sbirlib.visual.grid import retrieval_grid
from sbirlib.visual.layout import save_picture

SMALL: dict[str, Any] = {  # a network of 1.3 million weights, from scratch, for two cores
    "encoder": {
        "backbone": "resnet10t",
        "pretrained": False,
        "dim": 128,
        "timm_options": {"stem_type": "", "channels": [32, 64, 128, 256]},
    },
    "transform": {"size": 48, "crop": 0.85},
    "sampler": {"categories": 16, "per_modality": 2},  # with few categories a batch, the triplet terms collapse from scratch
    "phases.0": {
        "steps": 160,
        "optimizer": {"lr": 3e-3},
        "schedule": {"warmup": 20},
        "parameters": [],
    },
}
DATA: dict[str, Any] = {"categories": 60, "unseen": 10, "instances": 12, "sketches": 2}


def demo(out: Path, *, seed: int = 0) -> None:
    """Train, evaluate before and after beside chance, and draw the ten best photos for sketches of unseen categories."""
    start = time.monotonic()
    dataset = synthetic(**DATA, seed=seed)
    typer.echo(dataset.describe())
    pipeline = build("mathm", **SMALL, seed=seed)
    folder = out / "run"
    shutil.rmtree(folder, ignore_errors=True)
    before = pipeline.evaluate(dataset)
    pipeline.fit(dataset, out=folder)
    pipeline.export(folder / "model.safetensors")
    after = pipeline.evaluate(dataset)
    random = chance(_labels(dataset.test.sketches), _labels(dataset.test.photos))
    typer.echo(f"\n{len(dataset.test.categories)} categories it was never shown:\n{'':14}{'chance':>10}{'before':>10}{'after':>10}")
    for name in after:
        typer.echo(f"{name:14}{random[name]:>10.3f}{before[name]:>10.3f}{after[name]:>10.3f}")
    picture = out / "found.png"
    save_picture(best_photos(pipeline, dataset), picture)
    index = searchable(pipeline, dataset.test.photos, out)
    typer.echo(f"\nten best photos for a sketch of each of six of them (green: right category): {picture}")
    typer.echo(f"trained, measured and drawn in {time.monotonic() - start:.0f} s")
    command = "sbirlib" if shutil.which("sbirlib") else sys.argv[0]
    typer.echo(f"draw yourself, and the photos of those categories come back: {command} serve {index}")
    typer.echo("on your own photos: sbirlib train mathm --data FOLDER, where FOLDER holds sketch/<class>/ and photo/<class>/")


def searchable(pipeline: Pipeline, photos: Dataset, out: Path) -> Path:
    """An index of the photos, which are written into out/photos/<category>/; the folder that `sbirlib serve` takes."""
    folder, index = out / "photos", out / "index"
    for old in (folder, index):
        shutil.rmtree(old, ignore_errors=True)
    for i in range(len(photos)):
        path = folder / photos.categories[photos.category[i]] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photos.read(i).save(path)
    pipeline.index(folder, progress=False).save(index)
    return index


def _labels(dataset: Dataset) -> Encoded:
    """The labels of a dataset, with zero vectors."""
    modality, category, instance = (torch.from_numpy(v) for v in (dataset.modality, dataset.category, dataset.instance))
    return Encoded(torch.zeros(len(dataset), 1), modality, category, instance)


def best_photos(pipeline: Pipeline, dataset: Dataset, rows: int = 6) -> Any:
    """A picture of the ten best photos for one sketch of each of the first `rows` unseen categories."""
    unseen = dataset.test
    sketches, photos = unseen.sketches, unseen.photos
    indices = [int(np.flatnonzero(sketches.category == category)[0]) for category in range(min(rows, len(unseen.categories)))]
    index = pipeline.index(photos, progress=False)
    row_of = {photos.path(i): i for i in range(len(photos))}
    hits = index.search_all([sketches.read(i) for i in indices])
    names = [unseen.categories[sketches.category[i]] for i in indices]
    return retrieval_grid(
        [sketches.read(i) for i in indices],
        [[photos.read(row_of[hit.path]) for hit in row] for row in hits],
        [[hit.category == name for hit in row] for name, row in zip(names, hits, strict=True)],
        titles=names,
    )
