import torch

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


def test_join_keeps_the_anchors_that_have_both() -> None:
    triplets = join(torch.tensor([1, -1, 0]), torch.tensor([2, 2, -1]))
    assert (triplets.anchor.tolist(), triplets.positive.tolist(), triplets.negative.tolist()) == ([0], [1], [2])
