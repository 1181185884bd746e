"""Picture of current retrievals: the best photos for a sketch of each of some categories."""

from __future__ import annotations

from PIL import Image

from sbirlib.data.dataset import Dataset
from sbirlib.features import Encoded
from sbirlib.visual.grid import retrieval_grid


def retrievals(queries: Encoded, gallery: Encoded, images: Dataset, *, rows: int = 6, k: int = 8) -> Image.Image:
    """Draw the k best photos for the first sketch of each of up to `rows` categories, framed green where the category is right.

    `queries` [Q, S, W] and `gallery` [G, W] are the encoded sketches and photos of `images`.
    """
    sketches, photos = images.sketches, images.photos
    first = {int(category): i for i, category in reversed(list(enumerate(sketches.category.tolist())))}
    chosen = [first[category] for category in sorted(first)[:rows]]
    best = [(queries.vectors[i] @ gallery.vectors.T).amax(0).topk(min(k, len(photos))).indices.tolist() for i in chosen]
    return retrieval_grid(
        [sketches.read(i) for i in chosen],
        [[photos.read(j) for j in row] for row in best],
        [[bool(photos.category[j] == sketches.category[i]) for j in row] for i, row in zip(chosen, best, strict=True)],
        titles=[images.categories[sketches.category[i]] if sketches.category[i] >= 0 else "" for i in chosen],
    )
