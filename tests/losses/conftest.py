from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sbirlib.interfaces import Batch, Encoder, Features, Miner, Step, Triplets


class Fixed(Miner):
    """Gives the triplets it was made with."""

    def __init__(self, triplets: dict[str, Triplets]) -> None:
        super().__init__()
        self.triplets = triplets

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        return self.triplets


@pytest.fixture
def make_step() -> Callable[..., Step]:
    """A step over rows with the given embedding [N, D] and category [N]; `triplets` are those of its miner."""

    def make(embedding: Tensor, category: Tensor, triplets: dict[str, Triplets] | None = None) -> Step:
        modality = torch.arange(len(category)) % 2
        batch = Batch(torch.empty(len(category), 3, 0, 0), modality, category, torch.full_like(category, -1))
        miner = None if triplets is None else Fixed(triplets)
        return Step(Features.of(batch, embedding), encoder=Encoder(), batch=batch, miner=miner)

    return make
