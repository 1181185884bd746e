"""t-SNE maps of sketches and photos (van der Maaten and Hinton 2008; Huang et al. 2022, figure 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sbirlib.errors import InputError
from sbirlib.interfaces import Encoded
from sbirlib.visual.figures import figure


def embedding_map(encoded: Mapping[str, tuple[Encoded, Encoded]], names: Sequence[str], *, classes: int = 10, seed: int = 0) -> Any:
    """Plot a panel for each pair of queries [Q, S, V] and gallery [G, V], such as of two methods: stars are sketches, dots photos, a colour a class.

    `names` are the class names; the seed selects `classes` of them, the same for every panel. Of the S vectors of a query the first is used.

    >>> panels = embedding_map({"mathm": (sketches, photos)}, dataset.test.categories)
    >>> panels.savefig("tsne.png")
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise InputError("t-SNE is scikit-learn's, which is not installed: pip install 'sbirlib[figures]'") from error
    canvas = figure(5.2 * len(encoded), 5.0)
    selected = sorted(torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))[:classes].tolist())
    for axis, (title, (queries, gallery)) in zip(canvas.subplots(1, len(encoded), squeeze=False)[0], encoded.items(), strict=True):
        rows = [side[torch.isin(side.category, torch.tensor(selected))] for side in (queries, gallery)]
        vectors = torch.cat([rows[0].vectors[:, 0], rows[1].vectors])
        if len(vectors) < 4:
            raise InputError(f"{title}: {len(vectors)} images of the selected classes are too few for a map")
        place = TSNE(perplexity=min(30.0, (len(vectors) - 1) / 3), init="pca", random_state=seed).fit_transform(vectors.numpy())
        sides = zip(rows, (place[: len(rows[0])], place[len(rows[0]) :]), (("*", 40), (".", 12)), strict=True)
        for side, at, (marker, size) in sides:
            for colour, category in enumerate(selected):
                own = (side.category == category).numpy()
                label = names[category] if marker == "." else None
                axis.scatter(*at[own].T, marker=marker, s=size, color=f"C{colour % 10}", label=label, linewidths=0.3)
        axis.set_title(title, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    canvas.legend(*axis.get_legend_handles_labels(), loc="outside right center", fontsize=7)
    return canvas
