from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder, Features, Step
from sbirlib.losses.supcon import SupCon, supcon

MODALITY = torch.tensor([SKETCH, PHOTO, SKETCH, PHOTO, PHOTO, SKETCH, SKETCH, PHOTO])
CATEGORY = torch.tensor([0, 0, 1, 1, 2, 3, 1, -1])  # categories 2 and 3 have one modality, and the last row has no category


def step(embedding: Tensor, modality: Tensor = MODALITY, category: Tensor = CATEGORY) -> Step:
    batch = Batch(torch.empty(len(modality), 3, 0, 0), modality, category, torch.zeros_like(category))
    return Step(Features.of(batch, embedding), encoder=Encoder(), batch=batch)


def rows(count: int = 8) -> Tensor:
    return torch.randn(count, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()


def literal(embedding: Tensor, modality: Tensor, category: Tensor, temperature: float, *, across: bool) -> Tensor:
    """Khosla et al. 2020, eq. 2, by loops over cosines."""
    terms = []
    for i in range(len(category)):
        candidates = [c for c in range(len(category)) if c != i and (not across or modality[c] != modality[i])]
        positives = [c for c in candidates if category[c] == category[i] >= 0]
        scores = {c: F.cosine_similarity(embedding[i], embedding[c], dim=0) / temperature for c in candidates}
        total = torch.stack(list(scores.values())).exp().sum() if scores else torch.ones(())
        if positives:
            terms.append(-torch.stack([torch.log(scores[p].exp() / total) for p in positives]).mean())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("pairs", ["across", "all"])
def test_equals_the_equation_in_value_and_gradient(pairs: str) -> None:
    embedding = rows()
    ours = SupCon(temperature=0.2, pairs=pairs)(step(embedding))  # type: ignore[arg-type]
    theirs = literal(embedding, MODALITY, CATEGORY, 0.2, across=pairs == "across")
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    (mine,), (other,) = (torch.autograd.grad(value, embedding) for value in (ours, theirs))
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_across_modalities_no_two_sketches_are_compared() -> None:
    at_hand = step(rows())
    distances = (1.3 * at_hand.distances).detach().requires_grad_()
    at_hand.distances = distances
    SupCon()(at_hand).backward()
    assert distances.grad is not None
    crossed = MODALITY[:, None] != MODALITY
    assert bool(distances.grad[crossed].any())
    assert not bool(distances.grad[~crossed].any())


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (lambda: step(rows(4), torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)), 0.0),  # sketches alone
        (lambda: step(rows(4), torch.arange(4) % 2, torch.arange(4)), 0.0),  # no positive
        (lambda: step(rows(4), torch.arange(4) % 2, torch.full((4,), -1)), 0.0),  # no category
        (
            lambda: step(torch.ones(4, 5, dtype=torch.float64).requires_grad_(), torch.arange(4) % 2, torch.zeros(4, dtype=torch.int64)),
            0.6931,
        ),
    ],
)
def test_edge_cases_are_finite_and_have_a_gradient(case: Callable[[], Step], expected: float) -> None:
    at_hand = case()
    value = SupCon()(at_hand)
    value.backward()
    assert float(value) == pytest.approx(expected, abs=1e-4)


def test_large_logits_do_not_overflow() -> None:
    logits = torch.tensor([[0.0, 5e4], [5e4, 0.0]])
    same = torch.ones(2, 2, dtype=torch.bool)
    assert supcon(logits, same, ~torch.eye(2, dtype=torch.bool)) == 0
    assert float(supcon(logits, torch.eye(2, dtype=torch.bool), same)) == pytest.approx(5e4)
