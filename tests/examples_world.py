"""World of the examples in docstrings: a folder with small data and trained models, and the names that examples use."""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from sbirlib import build, folder, part
from sbirlib.data.dataset import Dataset
from sbirlib.data.packed import pack
from sbirlib.exchange.hub import save_pretrained
from sbirlib.interfaces import SKETCH, Encoder, Features, Step
from sbirlib.pipeline import Pipeline
from sbirlib.testing.world import batch as noise
from sbirlib.testing.world import separable

CLASSES = ("cat", "dog", "moon", "owl", "sun", "tree")
TINY: dict[str, Any] = {"backbone": "test_resnet", "pretrained": False, "dim": 16}


def world_of_examples(root: Path) -> dict[str, Any]:
    """Fill `root` with my-data, my-data.pack, photos, sketch.png and runs; return the names of the examples.

    `sketches` and `photos` are encoded, `step`, `features` and `distances` [N, N] those of one batch.
    """
    _write(separable(), root)
    dataset = folder(root / "my-data", split="moon,sun")
    pack(folder(root / "my-data"), root / "my-data.pack", progress=False)
    trained = _pipeline(0).fit(dataset, out=root / "runs" / "mathm", progress=False, tensorboard=False, log_every=1)
    trained.save(root / "runs" / "mathm" / "model.safetensors")
    save_pretrained(trained, root / "pretrained")
    sketches, photos = trained.encode(dataset, progress=False)
    step = _step(trained, dataset)
    features: Features = step.features
    names = {"torch": torch, "np": np, "Image": Image, "Path": Path, "deepcopy": deepcopy, "save_file": save_file, "SKETCH": SKETCH}
    return {
        **names,
        "dataset": dataset,
        "pipeline": trained,
        "trained": trained,
        "encoder": trained.encoder,
        "sketches": sketches,
        "photos": photos,
        "sketches_with_logits": replace(sketches, logits=torch.randn(len(sketches), 6)),
        "step": step,
        "step_of": step_of,
        "part": part,
        "features": features,
        "distances": step.distances.detach(),
        "batch": step.batch,
        "sketch": dataset.sketches.read(0),
        "photo": dataset.photos.read(0),
        "folder": folder,
        "classifiers": [_classifier(root, seed) for seed in (0, 1)],
    }


def step_of(encoder: Encoder) -> Step:
    """A step of `encoder` on noise [B, 3, 64, 64]: of four categories two instances each, with a sketch and a photo."""
    images = noise()
    return Step(encoder(images), encoder=encoder, batch=images, miner=part("miner", "modality_hard"))


def _pipeline(seed: int) -> Pipeline:
    return build(
        "mathm",
        encoder=TINY,
        transform={"size": 32},
        sampler={"categories": 3, "per_modality": 2},
        phases=[{"steps": 2, "parameters": [], "schedule": {"warmup": 0}}],
        seed=seed,
    )


def _classifier(root: Path, seed: int) -> Pipeline:
    """A classifier of the six classes, trained for one step."""
    recipe: dict[str, Any] = {
        "encoder": {"name": "backbone", **TINY},
        "losses": {"cross_entropy": {}},
        "evaluators": ["classification"],
        "phases": [{"steps": 1, "weights": {"cross_entropy": 1.0}, "sampler": {"name": "shuffled", "size": 8}}],
    }
    pipeline = build(recipe, transform={"size": 32}, seed=seed)
    return pipeline.fit(folder(root / "my-data", split="classification"), progress=False, tensorboard=False)


def _step(pipeline: Pipeline, dataset: Dataset) -> Step:
    """A step of a fresh pipeline, its features without gradient; the miner is MATHM's."""
    event = next(iter(_pipeline(1).steps(dataset)))
    return Step(event.step.features.detach(), encoder=pipeline.encoder, batch=event.step.batch, miner=part("miner", "modality_hard"))


def _write(dataset: Dataset, root: Path) -> None:
    for i in range(len(dataset)):
        modality = "sketch" if dataset.modality[i] == SKETCH else "photo"
        place = root / "my-data" / modality / CLASSES[dataset.category[i]]
        place.mkdir(parents=True, exist_ok=True)
        suffix = f"{dataset.instance[i]}-1" if modality == "sketch" else str(dataset.instance[i])
        dataset.read(i).save(place / f"{suffix}.png")
    shutil.copytree(root / "my-data" / "photo", root / "photos")
    shutil.copytree(root / "my-data" / "sketch", root / "sketches")
    shutil.copy(next((root / "sketches" / "cat").iterdir()), root / "sketch.png")
