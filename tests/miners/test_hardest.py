from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sbirlib.miners import hardest as module
from sbirlib.miners.hardest import hardest, join


def test_finds_the_hardest_candidate_of_each_row() -> None:
    distances = torch.tensor([[0.0, 3.0, 1.0], [3.0, 0.0, 2.0], [1.0, 2.0, 0.0]])
    candidates = torch.tensor([[False, True, True], [True, False, True], [False, False, False]])
    assert hardest(distances, candidates, farthest=True).tolist() == [1, 0, -1]
    assert hardest(distances, candidates, farthest=False).tolist() == [2, 2, -1]


def test_the_lowest_row_wins_ties() -> None:
    distances = torch.ones(200, 200)
    candidates = torch.ones(200, 200, dtype=torch.bool)
    candidates[:, :3] = False
    for farthest in (True, False):
        assert (hardest(distances, candidates, farthest=farthest) == 3).all()


def test_no_rows() -> None:
    assert len(hardest(torch.empty(0, 0), torch.empty(0, 0, dtype=torch.bool), farthest=True)) == 0


def test_infinite_distances_are_candidates_too() -> None:
    distances = torch.full((1, 2), torch.inf)
    assert hardest(distances, torch.tensor([[False, True]]), farthest=True).tolist() == [1]


def test_nan_is_chosen_so_that_the_loss_shows_it() -> None:
    distances = torch.tensor([[0.0, 1.0, torch.nan]])
    for farthest in (True, False):
        assert hardest(distances, torch.tensor([[False, True, True]]), farthest=farthest).tolist() == [2]


def literal(distances: Tensor, candidates: Tensor, farthest: bool) -> list[int]:
    """The hardest candidate of each row, one value at a time; a NaN is the hardest of all."""
    rows = []
    for values, mask in zip(distances.tolist(), candidates.tolist(), strict=True):
        inside = [
            (value == value, -value if farthest else value, i) for i, (value, kept) in enumerate(zip(values, mask, strict=True)) if kept
        ]
        rows.append(min(inside, key=lambda entry: (entry[0], entry[1] if entry[0] else 0.0, entry[2]))[2] if inside else -1)
    return rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("block", [1, 100, 2**20])
def test_any_values_are_compared_as_one_by_one(dtype: torch.dtype, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    odd = torch.tensor([torch.nan, torch.inf, -torch.inf, torch.finfo(dtype).max, torch.finfo(dtype).max / 3, 0.0])
    for seed in range(20):
        torch.manual_seed(seed)
        distances = (torch.randint(8, (17, 23)) / 4).to(dtype)
        if seed % 2:
            places = torch.rand(17, 23) < 0.2
            distances[places] = odd[torch.randint(len(odd), (int(places.sum()),))].to(dtype)
        candidates = torch.rand(17, 23) < torch.rand(17, 1)
        for farthest in (True, False):
            assert hardest(distances, candidates, farthest=farthest).tolist() == literal(distances, candidates, farthest)


def test_join_keeps_the_anchors_that_have_both() -> None:
    triplets = join(torch.tensor([1, -1, 0]), torch.tensor([2, 2, -1]))
    assert (triplets.anchor.tolist(), triplets.positive.tolist(), triplets.negative.tolist()) == ([0], [1], [2])
