"""Pictures of retrievals: the best photos for some sketches, of each of some categories, or of those with the highest and lowest values."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from sbirlib.data.dataset import Dataset
from sbirlib.features import Encoded
from sbirlib.visual.grid import retrieval_grid


def retrievals(queries: Encoded, gallery: Encoded, images: Dataset, *, rows: int = 6, k: int = 8) -> Image.Image:
    """Draw the k best photos for the first sketch of each of up to `rows` categories, framed green where the category is right.

    `queries` [Q, S, W] and `gallery` [G, W] are the encoded sketches and photos of `images`.
    """
    first = {int(category): i for i, category in reversed(list(enumerate(images.sketches.category.tolist())))}
    return retrievals_of([first[category] for category in sorted(first)[:rows]], queries, gallery, images, k=k)


def retrievals_of(
    chosen: Sequence[int],
    queries: Encoded,
    gallery: Encoded,
    images: Dataset,
    *,
    values: Tensor | None = None,
    instances: bool = False,
    k: int = 10,
) -> Image.Image:
    """Draw the k best photos for the chosen sketches, framed green where the category, or the instance, is right.

    `queries` [Q, S, W] and `gallery` [G, W] are the encoded sketches and photos of `images`; `values` [Q] stand beside the categories.
    """
    sketches, photos = images.sketches, images.photos
    own, theirs = (e.instance if instances else e.category for e in (queries, gallery))
    best = [(queries.vectors[i] @ gallery.vectors.T).amax(0).topk(min(k, len(photos))).indices.tolist() for i in chosen]
    names = [images.categories[sketches.category[i]] if sketches.category[i] >= 0 else "" for i in chosen]
    return retrieval_grid(
        [sketches.read(i) for i in chosen],
        [[photos.read(j) for j in row] for row in best],
        [[bool(theirs[j] == own[i]) for j in row] for i, row in zip(chosen, best, strict=True)],
        titles=names if values is None else [f"{name} {float(values[i]):.3f}" for i, name in zip(chosen, names, strict=True)],
    )


def extremes(values: Tensor, rows: int) -> tuple[list[int], list[int]]:
    """The queries with the highest and the lowest of values [Q], as many of each as `rows` at most; of NaN none.

    >>> extremes(torch.tensor([0.5, torch.nan, 1.0, 0.0]), 1)
    ([2], [3])
    """
    valid = (values == values).nonzero().squeeze(1)
    order = valid[values[valid].argsort(stable=True)].tolist()
    return order[::-1][:rows], order[:rows]
