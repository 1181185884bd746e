"""Miners with one defect each, a sound one, and its oracle."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sbirlib.interfaces import Features, Miner, Triplets


class FirstOfEach(Miner):
    """A miner with nothing wrong: for each row the first other one of its category, and the first of another."""

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        same = features.category[:, None] == features.category
        positive, negative = same.clone().fill_diagonal_(False), ~same
        anchor = (positive.any(1) & negative.any(1)).nonzero().squeeze(1)
        first = [m[anchor].float().argmax(1) if len(anchor) else anchor for m in (positive, negative)]
        return {"first": Triplets(anchor, *first)}


class Careless(FirstOfEach):
    """Positives may be of any category."""

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        triplets = super().forward(features, distances)["first"]
        return {"first": Triplets(triplets.anchor, triplets.negative, triplets.positive)}


class Misnamed(FirstOfEach):
    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        return {"cross": super().forward(features, distances)["first"]}


class Brittle(FirstOfEach):
    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        distances.max()
        return super().forward(features, distances)


class Hoarder(FirstOfEach):
    """Keeps the distances, and so the graph."""

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        self.last = distances
        return super().forward(features, distances)


class Cubic(FirstOfEach):
    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        _ = distances[:, :, None] - distances[:, None, :]
        return super().forward(features, distances)


class Selfish(FirstOfEach):
    """The first row of a category, be it the anchor."""

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        triplets = super().forward(features, distances)["first"]
        same = features.category[:, None] == features.category
        return {"first": Triplets(triplets.anchor, same[triplets.anchor].float().argmax(1), triplets.negative)}


class OwnImage(FirstOfEach):
    """Never reads its option.

    Args:
        same_source: allow positives that were synthesised from the anchor's own image
    """

    def __init__(self, *, same_source: bool = True) -> None:
        super().__init__()


class Diagonal(FirstOfEach):
    """Marks the diagonal of its caller's distances."""

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        distances.fill_diagonal_(float("inf"))
        return super().forward(features, distances)


class Listing(FirstOfEach):
    """Triplets that are made of lists, and so on the CPU."""

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        triplets = super().forward(features, distances)["first"]
        rows = (t.tolist() for t in (triplets.anchor, triplets.positive, triplets.negative))
        return {"first": Triplets(*(torch.tensor(r, dtype=torch.int64) for r in rows))}


class Halves(FirstOfEach):
    """Expects as many rows of one half as of the other."""

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        if len(features) > 1:
            distances.reshape(2, len(features) // 2, -1)
        return super().forward(features, distances)


def first_of_each(features: Features, distances: Tensor) -> dict[str, Sequence[tuple[int, int, int]]]:
    """`FirstOfEach` by plain loops."""
    category = features.category.tolist()
    triplets = []
    for a, own in enumerate(category):
        positives = [i for i, c in enumerate(category) if c == own and i != a]
        negatives = [i for i, c in enumerate(category) if c != own]
        if positives and negatives:
            triplets.append((a, positives[0], negatives[0]))
    return {"first": triplets}
