"""What the generator makes of sketches, to be looked at (ACNet, figures 3, 7 and 10)."""

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

ROWS = 64  # images at once


def synthesised(models: Mapping[str, Pipeline], dataset: Dataset, *, rows: int = 6, photos: int = 2, seed: int = 0) -> Image.Image:
    """Sketches of the test part, what each model's generator makes of them, and real photos of their categories (figure 7).

    `models` by name, such as one model at several epochs; InputError for one without the encoder `synthesis`.
    """
    part, random = dataset.test, np.random.default_rng(seed)
    if not len(part.sketches) or not len(part.photos):
        raise InputError(f"{dataset.name} has no sketch or no photo to draw: check the folder and the split")
    chosen = random.choice(len(part.sketches), min(rows, len(part.sketches)), replace=False).tolist()
    shown: dict[str, list[Image.Image]] = {}
    for name, pipeline in models.items():
        sketches = prepared(part.sketches, chosen, pipeline.transform)
        shown.setdefault("sketch", to_pictures(sketches))
        shown[name] = to_pictures(generated(pipeline, sketches))
    transform = next(iter(models.values())).transform
    for number in range(photos):
        column = [random.choice(np.flatnonzero(part.photos.category == part.sketches.category[i])) for i in chosen]
        shown[f"photo {number + 1}"] = to_pictures(prepared(part.photos, column, transform))
    return columns(shown)


def sketch_photo_distances(
    models: Mapping[str, Pipeline], dataset: Dataset, *, each: int = 50, seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Mean absolute differences of pixels in [-1, 1] between sketches and photos of a category, of the sketch itself and of what each
    model's generator makes of it (figure 3).

    Of each training category up to `each` sketches, drawn by the seed, with a photo each. InputError as for `synthesised`.
    """
    part, random = dataset.train, np.random.default_rng(seed)
    found: dict[str, list[Tensor]] = {"w/o synthesis": [], **{name: [] for name in models}}
    for category in range(len(part.categories)):
        drawn, taken = (np.flatnonzero(side.category == category) for side in (part.sketches, part.photos))
        count = min(each, len(drawn), len(taken))
        chosen = [random.choice(some, count, replace=False).tolist() for some in (drawn, taken)]
        for number, (name, pipeline) in enumerate(models.items()):
            sketches, photos = (
                prepared(side, rows, pipeline.transform) for side, rows in zip((part.sketches, part.photos), chosen, strict=True)
            )
            found[name].append(apart(generated(pipeline, sketches), photos))
            if number == 0:
                found["w/o synthesis"].append(apart(sketches, photos))
    return {name: torch.cat(values).numpy() for name, values in found.items()}


def apart(images: Tensor, photos: Tensor) -> Tensor:
    """The mean absolute difference [n] of pictures [n, 3, S, S] in [0, 1], as in [-1, 1]."""
    return 2 * (images - photos).abs().flatten(1).mean(1)


def histogram(distances: Mapping[str, NDArray[np.float32]]) -> Any:
    """The distances as overlaid histograms."""
    drawn = figure(6, 3)
    axes = drawn.add_subplot()
    for name, values in distances.items():
        axes.hist(values, bins=60, alpha=0.6, density=True, label=f"{name} (mean {values.mean():.3f})")
    axes.set_xlabel("mean absolute difference of a sketch and a photo of its category")
    axes.legend(frameon=False)
    return drawn


def generated(pipeline: Pipeline, images: Tensor) -> Tensor:
    """G of images [n, 3, S, S] in [0, 1]."""
    synthesis = next((module for module in pipeline.encoder.modules() if isinstance(module, Synthesis)), None)
    if synthesis is None:
        raise InputError(f"{pipeline.recipe.name or 'this model'} has no encoder 'synthesis', so it generates nothing")
    with torch.inference_mode():
        return torch.cat([synthesis.translator.generator(images[i : i + ROWS]).float() for i in range(0, len(images), ROWS)])


def prepared(images: Dataset, rows: list[int], transform: Transform) -> Tensor:
    """Images of a dataset as a model sees them, [n, 3, S, S] in [0, 1]."""
    return torch.stack([transform.prepare(images.read(i), int(images.modality[i])) for i in rows]).float() / 255
