"""ACNet, figures 3 and 7: synthesised photos, and distances of sketches and photos before and after synthesis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import Transform
from sbirlib.pipeline import Pipeline
from sbirlib.visual.columns import columns
from sbirlib.visual.figures import figure
from sbirlib.visual.layout import to_pictures
from sbirlib_acnet.synthesis import Synthesis

BATCH = 64


def synthesised(models: Mapping[str, Pipeline], dataset: Dataset, *, rows: int = 6, photos: int = 2, seed: int = 0) -> Image.Image:
    """Test sketches, the output of each model's generator, and real photos of the same categories (figure 7).

    `models` by name, such as one model at several epochs; InputError for one without the encoder `synthesis`.
    """
    test, rng = dataset.test, np.random.default_rng(seed)
    if not len(test.sketches) or not len(test.photos):
        raise InputError(f"{dataset.name} has no sketch or no photo to draw: check the folder and the split")
    indices = rng.choice(len(test.sketches), min(rows, len(test.sketches)), replace=False).tolist()
    pictures: dict[str, list[Image.Image]] = {}
    for name, pipeline in models.items():
        sketches = prepare(test.sketches, indices, pipeline.transform)
        pictures.setdefault("sketch", to_pictures(sketches))
        pictures[name] = to_pictures(generate(pipeline, sketches))
    transform = next(iter(models.values())).transform
    for number in range(photos):
        column = [rng.choice(np.flatnonzero(test.photos.category == test.sketches.category[i])) for i in indices]
        pictures[f"photo {number + 1}"] = to_pictures(prepare(test.photos, column, transform))
    return columns(pictures)


def sketch_photo_distances(
    models: Mapping[str, Pipeline], dataset: Dataset, *, each: int = 50, seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Mean absolute pixel differences [n] of sketches and photos of the same category, without synthesis and by model (figure 3).

    Pixels are in [-1, 1]. Up to `each` random sketches of a training category are paired with a photo each. InputError as for `synthesised`.
    """
    train, rng = dataset.train, np.random.default_rng(seed)
    distances: dict[str, list[Tensor]] = {"w/o synthesis": [], **{name: [] for name in models}}
    for category in range(len(train.categories)):
        of_sketches, of_photos = (np.flatnonzero(side.category == category) for side in (train.sketches, train.photos))
        count = min(each, len(of_sketches), len(of_photos))
        indices = [rng.choice(candidates, count, replace=False).tolist() for candidates in (of_sketches, of_photos)]
        for number, (name, pipeline) in enumerate(models.items()):
            sketches, photos = (
                prepare(side, rows, pipeline.transform) for side, rows in zip((train.sketches, train.photos), indices, strict=True)
            )
            distances[name].append(pixel_difference(generate(pipeline, sketches), photos))
            if number == 0:
                distances["w/o synthesis"].append(pixel_difference(sketches, photos))
    return {name: torch.cat(values).numpy() for name, values in distances.items()}


def pixel_difference(images: Tensor, photos: Tensor) -> Tensor:
    """Mean absolute difference [n] of images [n, 3, S, S] in [0, 1], scaled to pixels in [-1, 1]."""
    return 2 * (images - photos).abs().flatten(1).mean(1)


def histogram(distances: Mapping[str, NDArray[np.float32]]) -> Any:
    """Overlaid histograms of distances [n], by name."""
    canvas = figure(6, 3)
    axes = canvas.add_subplot()
    for name, values in distances.items():
        axes.hist(values, bins=60, alpha=0.6, density=True, label=f"{name} (mean {values.mean():.3f})")
    axes.set_xlabel("mean absolute difference of a sketch and a photo of its category")
    axes.legend(frameon=False)
    return canvas


def generate(pipeline: Pipeline, images: Tensor) -> Tensor:
    """Output of the generator for images [n, 3, S, S] in [0, 1]; InputError for a model without one."""
    synthesis = next((module for module in pipeline.encoder.modules() if isinstance(module, Synthesis)), None)
    if synthesis is None:
        raise InputError(f"{pipeline.recipe.name or 'this model'} has no encoder 'synthesis', so it generates nothing")
    with torch.inference_mode():
        return torch.cat([synthesis.translator.generator(images[i : i + BATCH]).float() for i in range(0, len(images), BATCH)])


def prepare(images: Dataset, rows: list[int], transform: Transform) -> Tensor:
    """Transformed images of a dataset, [n, 3, S, S] in [0, 1]."""
    return torch.stack([transform.prepare(images.read(i), int(images.modality[i])) for i in rows]).float() / 255
