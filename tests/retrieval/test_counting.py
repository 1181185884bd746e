"""Counting agrees with sorting, for distances of any distribution."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sbirlib.retrieval.exact.counting import CROWDED, _count, ranks

WORLDS = {
    "spread": lambda draw: draw,
    "ties": lambda draw: draw.mul(200).round().div(200),
    "near zero and one outlier": lambda draw: draw.mul(1e-6).index_fill(1, torch.tensor([0]), 5.0),
    "a narrow band far off zero": lambda draw: draw.mul(1e-5).add(1.0),
    "large": lambda draw: draw.mul(1e30),
    "steps": lambda draw: draw.sign(),
    "infinite": lambda draw: draw.masked_fill(draw > 1.5, torch.inf),
    "minus infinity": lambda draw: draw.masked_fill(draw < -1.5, -torch.inf),
}


def world(kind: str, dtype: torch.dtype, most: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(most)
    rows = WORLDS[kind](torch.randn(7, 3000, generator=generator, dtype=torch.float64)).to(dtype)
    relevant = torch.randint(1, most + 1, (7, 1), generator=generator)
    own = rows[:, torch.randperm(3000, generator=generator)[:most]]
    padding = torch.arange(most) >= relevant
    return rows, own.masked_fill(padding, torch.inf).sort(dim=1).values, relevant


@pytest.mark.parametrize("kind", WORLDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("most", [1, 2, 40, 900])
def test_counting_is_sorting(kind: str, dtype: torch.dtype, most: int) -> None:
    rows, own, relevant = world(kind, dtype, most)
    below, equal = ranks(rows, own, relevant)
    for row, keys, count, lower, same in zip(rows, own, relevant[:, 0].tolist(), below, equal, strict=True):
        for key, before, ties in zip(keys[:count], lower.tolist(), same.tolist(), strict=False):
            assert (before, ties) == (int((row < key).sum()), int((row == key).sum()))


def test_ordinary_distances_are_counted_and_crowded_ones_are_not() -> None:
    rows, own, relevant = (values.numpy() for values in world("spread", torch.float32, 900))
    assert _count(rows, own, relevant) is not None
    assert _count(rows, np.zeros((7, CROWDED + 1), np.float32), np.full((7, 1), CROWDED + 1)) is None


def test_many_blocks_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    block = world("ties", torch.float32, 40)
    expected = ranks(*block)
    monkeypatch.setattr("sbirlib.retrieval.exact.counting.BLOCK", 6000)
    assert all(torch.equal(values, others) for values, others in zip(ranks(*block), expected, strict=True))
