"""A picture of what training sees: a row a class, its sketches and then its photos, changed as in training."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from sbirlib.data.batches import Prepared, load
from sbirlib.data.dataset import Dataset
from sbirlib.interfaces import Transform
from sbirlib.visual.columns import to_pictures
from sbirlib.visual.grid import GAP, INK, MARGIN, font


def training_batch(dataset: Dataset, transform: Transform, *, categories: int = 8, per_modality: int = 4, seed: int = 0) -> Image.Image:
    """Images of `categories` classes, drawn by the seed: of each `per_modality` sketches and photos, where it has any, as the network gets them."""
    train, random = dataset.train, np.random.default_rng(seed)
    drawn = random.permutation(len(train.categories))[:categories]
    rows = [
        int(i)
        for category in drawn
        for modality in np.unique(train.modality)
        for i in np.resize(random.permutation(np.flatnonzero((train.category == category) & (train.modality == modality))), per_modality)
    ]
    batch = next(load(Prepared(train, transform), [rows], seed=seed, epoch=0))
    per_class = len(rows) // len(drawn)
    side, text = transform.size, 120
    height = MARGIN * 2 + (side + GAP) * len(drawn)
    canvas = Image.new("RGB", (MARGIN * 3 + text + (side + GAP) * per_class, height), "white")
    draw = ImageDraw.Draw(canvas)
    for i, picture in enumerate(to_pictures(batch.images)):
        row, column = divmod(i, per_class)
        y = MARGIN + row * (side + GAP)
        x = MARGIN + text + column * (side + GAP) + (MARGIN if column >= per_modality else 0)
        canvas.paste(picture, (x, y))
        draw.rectangle((x - 1, y - 1, x + side, y + side), outline="#e4e4e4")
        if not column:
            draw.text((MARGIN, y + side / 2), train.categories[int(batch.category[i])], fill=INK, font=font(), anchor="lm")
    return canvas
