"""Query expansion: a query moves towards the photos that it finds, and is asked again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.distance import are_units
from sbirlib.errors import InputError
from sbirlib.features import Encoded
from sbirlib.phase import Expansion
from sbirlib.retrieval.indexes.exhaustive import best

Search = Callable[[Tensor, int], tuple[Tensor, Tensor]]
CHUNK = 1024  # queries whose photos' vectors are in memory at once


def expanded(queries: Tensor, settings: Expansion, search: Search) -> Tensor:
    """Queries [Q, 1, V] of unit length, expanded by the photos that `search` finds (Radenovic et al. 2019, section 3.5).

        q_r = unit(q_0 + w unit(sum_i max(q_(r-1) . g_i, 0)^a g_i))

    over the k photos g_i nearest to q_(r-1), for rounds r = 1, 2, ...; the paper has one round, and the query as one of the k. `search` gives the
    scores [Q, k] and vectors [Q, k, V] of the k best photos for queries [Q, 1, V], -inf where there are fewer. A query without a photo
    of positive score stays as it is. Raises InputError for queries and photos that are no unit vectors of one space.
    """
    check_space(queries)
    return torch.cat([_expanded(part, settings, search) for part in queries.split(CHUNK)])


def in_gallery(queries: Encoded, gallery: Encoded, settings: Expansion | None) -> Encoded:
    """Queries [Q, 1, V], expanded in a gallery [G, V] by an exact search; as they are without settings, or without a photo."""
    if settings is None or not len(gallery):
        return queries
    check_space(queries.vectors, gallery.vectors)
    photos = np.ascontiguousarray(gallery.vectors.numpy())

    def search(vectors: Tensor, k: int) -> tuple[Tensor, Tensor]:
        scores, rows = best(photos, np.ascontiguousarray(vectors[:, 0].numpy()), k)
        return torch.from_numpy(scores), torch.from_numpy(photos[rows])

    return replace(queries, vectors=expanded(queries.vectors, settings, search))


def check_space(queries: Tensor, photos: Tensor | None = None) -> None:
    """Raise InputError unless queries [Q, 1, V] and photos [..., V] are unit vectors of one space."""
    if queries.shape[1] != 1:
        _refuse(f"a query has {queries.shape[1]} vectors")
    if not are_units(queries):
        _refuse("a query has another length")
    if photos is not None and photos.shape[-1] != queries.shape[-1]:
        _refuse(f"a query has {queries.shape[-1]} numbers, a photo {photos.shape[-1]}")
    if photos is not None and not are_units(photos):
        _refuse("a photo has another length")


def _refuse(fault: str) -> NoReturn:
    raise InputError(
        f"expansion moves a query among the photos, so both must be unit vectors of one space, and {fault}: leave expansion out, or take an "
        "encoder whose distances are those of its embedding"
    )


def _expanded(queries: Tensor, settings: Expansion, search: Search) -> Tensor:
    current = queries
    for _ in range(settings.rounds):
        scores, photos = search(current, settings.photos)
        there = scores.isfinite()
        check_space(queries, photos[there])
        weights = scores.where(there, 0).clamp(min=0) ** settings.power * there
        mean = F.normalize((weights[..., None] * photos.where(there[..., None], 0)).sum(1, keepdim=True), dim=2)
        current = F.normalize(queries + settings.weight * mean, dim=2)
    return current
