"""Operations that stand in for torch's in a graph."""

import pytest
import torch

from sbirlib.exchange import substitutes


@pytest.mark.parametrize(("sides", "cells"), [((7, 9), (2, 3)), ((4, 4), (8, 8)), ((16, 5), (1, 5)), ((8, 6), 4)])
def test_the_pooling_is_torchs(sides: tuple[int, int], cells: int | tuple[int, int]) -> None:
    maps = torch.rand(2, 3, *sides)
    expected = torch.nn.functional.adaptive_max_pool2d(maps, cells)
    assert substitutes.adaptive_max_pool2d(maps, cells).equal(expected)


@pytest.mark.parametrize("rows", [3, 40])
def test_distances_and_lengths_are_torchs(rows: int) -> None:
    x, y = torch.rand(5, 6), torch.rand(rows, 6)
    torch.testing.assert_close(substitutes.cdist(x, y), torch.cdist(x, y), rtol=0, atol=1e-4)
    torch.testing.assert_close(substitutes.cdist(x, y, p=1.0), torch.cdist(x, y, p=1.0))
    torch.testing.assert_close(substitutes.hypot(x, x + 1), torch.hypot(x, x + 1))
