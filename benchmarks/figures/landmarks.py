"""Landmarks with their offsets, and responses of filters (Zhang et al. 2019, figures 5 and 6)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from sbirlib.data.batches import Prepared, load
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Features
from sbirlib.pipeline import Pipeline
from sbirlib.visual.columns import columns
from sbirlib.visual.layout import to_pictures

POINT, ARROW, NAME = (220, 30, 30), (20, 150, 60), (40, 60, 160)
RADIUS = 2


def landmarks(pipeline: Pipeline, dataset: Dataset, *, rows: int = 8, seed: int = 0) -> Image.Image:
    """Test sketches with the initial points in red and their offsets as green lines (figure 5)."""
    batch, features = _encode_sketches(pipeline, dataset, rows, seed)
    if "moved" not in features.images:
        raise InputError("this model has no landmarks: figure 5 is of the encoder landmark, with landmarks of at least 1")
    pictures = to_pictures(batch.images)
    points, targets = features.images["points"].tolist(), features.images["moved"].tolist()
    return columns({"sketch": pictures, "landmarks": [_with_offsets(*each) for each in zip(pictures, points, targets, strict=True)]})


def filters(pipeline: Pipeline, dataset: Dataset, *, rows: int = 8, seed: int = 0) -> Image.Image:
    """Test sketches with the softmax over positions of the strongest filter, and the category of that filter (figure 6)."""
    batch, features = _encode_sketches(pipeline, dataset, rows, seed)
    if "responses" not in features.images:
        raise InputError("this model has no filters: figure 6 is of the encoder landmark, with filters of at least 1")
    responses = features.images["responses"]
    strongest = responses.mean((2, 3)).argmax(1)
    response = responses[torch.arange(len(strongest)), strongest]
    heat = response.flatten(1).softmax(1).view_as(response)
    names = [pipeline.categories[i] if i < len(pipeline.categories) else str(i) for i in strongest.tolist()]
    pictures = [_with_name(*each) for each in zip(to_pictures(redden(batch.images, heat)), names, strict=True)]
    return columns({"sketch": to_pictures(batch.images), "filter": pictures})


def redden(images: Tensor, heat: Tensor) -> Tensor:
    """Images [n, 3, H, W] in red where a map [n, H', W'] is high, relative to the maximum of each map."""
    shares = heat / heat.amax((1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)
    large = F.interpolate(shares[:, None], images.shape[-2:], mode="bilinear")
    return images * torch.cat([torch.ones_like(large), 1 - large, 1 - large], 1)


def _encode_sketches(pipeline: Pipeline, dataset: Dataset, rows: int, seed: int) -> tuple[Batch, Features]:
    """Batch of random test sketches, and its features."""
    sketches = dataset.test.sketches
    indices = np.random.default_rng(seed).choice(len(sketches), min(rows, len(sketches)), replace=False).tolist()
    batch = next(load(Prepared(sketches, pipeline.transform), [indices], seed=seed, epoch=0, augment=False))
    pipeline.model.eval()
    with torch.inference_mode():
        return batch, pipeline.encoder(batch)


def _with_offsets(picture: Image.Image, points: list[list[float]], targets: list[list[float]]) -> Image.Image:
    picture = picture.convert("RGB")
    draw = ImageDraw.Draw(picture)
    for (x, y), (to_x, to_y) in zip(points, targets, strict=True):
        draw.line((x, y, to_x, to_y), ARROW, 1)
        draw.ellipse((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS), POINT)
    return picture


def _with_name(picture: Image.Image, name: str) -> Image.Image:
    picture = picture.convert("RGB")
    ImageDraw.Draw(picture).text((2, 1), name, fill=NAME)
    return picture
