"""A training batch as a picture: a row a class, its augmented sketches and then its photos."""

from __future__ import annotations

import numpy as np
from PIL import Image

from sbirlib.data.batches import Prepared, load
from sbirlib.data.dataset import Dataset
from sbirlib.interfaces import Transform
from sbirlib.visual.layout import Cell, layout, to_pictures


def training_batch(dataset: Dataset, transform: Transform, *, categories: int = 8, per_modality: int = 4, seed: int = 0) -> Image.Image:
    """Draw augmented images of `categories` random classes, `per_modality` sketches and photos of each, as the network receives them.

    A modality without images is left out. The seed determines the classes, the images and their augmentation.
    """
    train, random = dataset.train, np.random.default_rng(seed)
    classes = random.permutation(len(train.categories))[:categories]
    rows = [
        int(i)
        for category in classes
        for modality in np.unique(train.modality)
        for i in np.resize(random.permutation(np.flatnonzero((train.category == category) & (train.modality == modality))), per_modality)
    ]
    batch = next(load(Prepared(train, transform), [rows], seed=seed, epoch=0))
    pictures, per_class = to_pictures(batch.images), len(rows) // len(classes)
    cells = [[Cell(picture) for picture in pictures[i : i + per_class]] for i in range(0, len(rows), per_class)]
    labels = [train.categories[int(batch.category[i])] for i in range(0, len(rows), per_class)]
    return layout(cells, cell=transform.size, labels=labels, apart=per_modality)
