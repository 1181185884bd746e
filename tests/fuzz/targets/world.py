"""The small world of the targets: a tiny encoder, its recipe, pictures, and vectors of photos that were never taken."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sbirlib import build
from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import from_lists
from sbirlib.pipeline import Pipeline
from sbirlib.retrieval.indexes.shards import Record

DIM = 16
ENCODER = {
    "name": "backbone",
    "backbone": "resnet10t",
    "pretrained": False,
    "dim": DIM,
    "timm_options": {"stem_type": "", "channels": [8, 16, 16, 16]},
}
PHASE = {"steps": 2, "optimizer": {"name": "adam", "lr": 1e-3}, "discriminator": {"name": "adam", "lr": 1e-3}}
RECIPE: dict[str, Any] = {
    "encoder": ENCODER,
    "transform": {"name": "sbir", "size": 32},
    "sampler": {"name": "balanced", "categories": 3, "per_modality": 2},
    "miner": "modality_hard",
    "losses": {"cross_entropy": {}, "balanced_triplet": {}, "modality_adversary": {}},
    "phases": [PHASE, {**PHASE, "optimizer": {"name": "adam", "lr": 3e-4}}],
    "evaluators": {"category": {"metrics": ["mAP@all"]}},
}


def dataset() -> Dataset:
    """Three categories of two instances, a sketch and a photo of each, 32 pixels wide."""
    rows = [(category, instance) for category in range(3) for instance in range(2)]
    tables = [[(_polygon(c, i, filled), f"class{c}", f"{c}-{i}") for c, i in rows] for filled in (False, True)]
    return from_lists("polygons", sketches=tables[0], photos=tables[1])


def _polygon(category: int, instance: int, filled: bool) -> Image.Image:
    """A polygon of three corners or more: black lines on white, or a coloured area on noise."""
    random = np.random.default_rng([category, instance])
    image = Image.fromarray(random.integers(180, 256, (32, 32, 3)).astype(np.uint8)) if filled else Image.new("RGB", (32, 32), "white")
    circle = (16, 16, 8 + 4 * instance)
    ink = (200, 40 * category, 10) if filled else (0, 0, 0)
    ImageDraw.Draw(image).regular_polygon(circle, 3 + category, rotation=20 * instance, fill=ink if filled else None, outline=ink)
    return image


@lru_cache(maxsize=1)
def pictures() -> tuple[Image.Image, Image.Image]:
    """A sketch and a photo."""
    data = dataset()
    return data.sketches.read(0), data.photos.read(0)


def pipeline() -> Pipeline:
    """The pipeline of the recipe, always with the same weights."""
    return build(RECIPE)


@lru_cache(maxsize=1)
def encoder() -> Pipeline:
    """A pipeline that is made once a process, and only asked."""
    return pipeline()


def vectors(rows: int, seed: int = 0) -> Tensor:
    """Unit vectors [rows, DIM]."""
    return torch.nn.functional.normalize(torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


def described(rows: int, start: int = 0) -> list[Record]:
    """Records of photos, from a number on."""
    return [
        {"path": f"photos/{i}.jpg", "category": ("cat", "dog", "owl")[i % 3], "year": 2000 + i % 5, "share": i / 8, "new": i % 2 == 0}
        for i in range(start, start + rows)
    ]


@contextmanager
def numbered_names() -> Iterator[None]:
    """Names of new files are numbers, not random."""
    numbers = count()
    with mock.patch.object(secrets, "token_hex", lambda size=4: f"{next(numbers):0{2 * size}x}"):
        yield


def save_png(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def plain_folder(root: Path, classes: tuple[str, ...] = ("moon", "sun", "tree", "fish"), each: int = 3) -> None:
    """A dataset's folder of dots: `each` sketches and photos a class."""
    for number, name in enumerate(classes):
        for i in range(each):
            dot = Image.new("L", (8, 8), 10 * number + i)
            save_png(root / "photo" / name / f"{name}{i}.png", dot)
            save_png(root / "sketch" / name / f"{name}{i}-1.png", dot)
