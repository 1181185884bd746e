from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from sbirlib.interfaces import Batch, Features


@pytest.fixture
def make_features() -> Callable[..., Features]:
    """Rows with the given embedding [N, D] and category [N]; `source` are the images they came from."""

    def make(embedding: Tensor, category: Sequence[int], source: Sequence[int] | None = None) -> Features:
        labels = torch.tensor(category, dtype=torch.int64)
        batch = Batch(torch.empty(len(labels), 3, 0, 0), torch.arange(len(labels)) % 2, labels, torch.full_like(labels, -1))
        features = Features.of(batch, embedding)
        if source is not None:
            features.source.copy_(torch.tensor(source))
        return features

    return make
