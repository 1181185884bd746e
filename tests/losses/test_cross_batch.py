"""Cross-batch memory: the equation by loops over batch and memory, the rows that are kept, and edge cases."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder, Features, Step
from sbirlib.losses.cross_batch import CrossBatch
from sbirlib.losses.supcon import SupCon

DIM = 5


def step(seed: int, count: int = 6, *, labelled: bool = True) -> Step:
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(count, DIM, dtype=torch.float64, generator=generator).requires_grad_()
    modality = torch.arange(count) % 2
    category = torch.randint(-1, 3, (count,), generator=generator) if labelled else torch.full((count,), -1)
    instance = torch.randint(0, 4, (count,), generator=generator)
    batch = Batch(torch.empty(count, 3, 0, 0), modality, category, instance)
    return Step(Features.of(batch, embedding), encoder=Encoder(), batch=batch)


def literal(at_hand: Step, earlier: list[tuple[Tensor, int, int]], positives: str, temperature: float) -> Tensor:
    """Wang et al. 2020: rows of the batch against those of the other modality, in the batch and in `earlier` (row, label, modality)."""
    features = at_hand.features
    labels = features.category if positives == "category" else features.instance
    rows = [(e, int(c), int(m)) for e, c, m in zip(features.embedding, labels, features.modality, strict=True)]
    terms = []
    for row, label, modality in rows:
        candidates = [(F.cosine_similarity(row, r, dim=0) / temperature, c) for r, c, m in [*rows, *earlier] if m != modality]
        total = torch.stack([score for score, _ in candidates]).exp().sum()
        losses = [-torch.log(score.exp() / total) for score, c in candidates if c == label >= 0]
        terms += [torch.stack(losses).mean()] if losses else []
    return torch.stack(terms).mean()


@pytest.mark.parametrize("positives", ["category", "instance"])
@pytest.mark.parametrize("size", [4, 10, 100])
def test_equals_the_equation_over_the_batch_and_the_last_rows(positives: str, size: int) -> None:
    loss = CrossBatch(dim=DIM, size=size, positives=positives, temperature=0.2).double()  # type: ignore[arg-type]
    earlier: list[tuple[Tensor, int, int]] = []
    for seed in range(5):
        at_hand = step(seed)
        ours, theirs = loss(at_hand), literal(at_hand, earlier[-size:], positives, 0.2)
        torch.testing.assert_close(ours, theirs)
        (mine,), (other,) = (torch.autograd.grad(value, at_hand.features.embedding, retain_graph=True) for value in (ours, theirs))
        torch.testing.assert_close(mine, other)
        loss.after_step(at_hand)
        features = at_hand.features
        labels = features.category if positives == "category" else features.instance
        earlier += [(e.detach(), int(c), int(m)) for e, c, m in zip(features.embedding, labels, features.modality, strict=True)]


def test_without_a_memory_it_is_supcon_on_cosines() -> None:
    at_hand, loss = step(1), CrossBatch(dim=DIM, size=0)
    loss.after_step(at_hand)
    torch.testing.assert_close(loss(at_hand), SupCon()(at_hand))


def test_a_batch_larger_than_the_memory_leaves_its_last_rows() -> None:
    at_hand, loss = step(0, count=10), CrossBatch(dim=DIM, size=4).double()
    loss.after_step(at_hand)
    assert sorted(loss.vectors[:, 0].tolist()) == sorted(F.normalize(at_hand.features.embedding, dim=1)[-4:, 0].tolist())
    assert loss.modality.tolist() == [SKETCH, PHOTO, SKETCH, PHOTO]


def test_the_memory_is_state() -> None:
    loss, other = CrossBatch(dim=DIM, size=8).double(), CrossBatch(dim=DIM, size=8).double()
    loss.after_step(step(0))
    other.load_state_dict(loss.state_dict())
    loss.after_step(step(1))
    other.after_step(step(1))
    assert all(torch.equal(a, b) for a, b in zip(loss.buffers(), other.buffers(), strict=True))


def test_without_a_positive_the_loss_is_zero_with_a_gradient() -> None:
    at_hand = step(0, labelled=False)
    loss = CrossBatch(dim=DIM, size=8).double()
    loss.after_step(step(1))
    value = loss(at_hand)
    value.backward()
    assert value == 0
