"""Sketches and photos of some classes in the plane (van der Maaten and Hinton 2008; Huang et al. 2022, figure 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sbirlib.errors import InputError
from sbirlib.interfaces import Encoded
from sbirlib.visual.figures import figure


def embedding_map(encoded: Mapping[str, tuple[Encoded, Encoded]], names: Sequence[str], *, classes: int = 10, seed: int = 0) -> Any:
    """A panel for each pair of queries and gallery, such as of two methods: stars are sketches, dots photos, a colour a class.

    The seed draws the classes, the same for every panel, of which `names` are the names. Queries of several vectors show their first.

    >>> pairs = {"mathm": pipeline.encode(dataset)}  # doctest: +SKIP
    >>> save_figure(embedding_map(pairs, dataset.test.categories), "tsne.png")  # doctest: +SKIP
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise InputError("t-SNE is scikit-learn's, which is not installed: pip install 'sbirlib[figures]'") from error
    drawn = figure(5.2 * len(encoded), 5.0)
    chosen = sorted(torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))[:classes].tolist())
    for axis, (title, (queries, gallery)) in zip(drawn.subplots(1, len(encoded), squeeze=False)[0], encoded.items(), strict=True):
        rows = [part[torch.isin(part.category, torch.tensor(chosen))] for part in (queries, gallery)]
        vectors = torch.cat([rows[0].vectors[:, 0], rows[1].vectors])
        if len(vectors) < 4:
            raise InputError(f"{title}: {len(vectors)} images of the classes drawn are too few for a map")
        place = TSNE(perplexity=min(30.0, (len(vectors) - 1) / 3), init="pca", random_state=seed).fit_transform(vectors.numpy())
        parts = zip(rows, (place[: len(rows[0])], place[len(rows[0]) :]), (("*", 40), (".", 12)), strict=True)
        for part, at, (marker, size) in parts:
            for colour, category in enumerate(chosen):
                own = (part.category == category).numpy()
                label = names[category] if marker == "." else None
                axis.scatter(*at[own].T, marker=marker, s=size, color=f"C{colour % 10}", label=label, linewidths=0.3)
        axis.set_title(title, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    drawn.legend(*axis.get_legend_handles_labels(), loc="outside right center", fontsize=7)
    return drawn
