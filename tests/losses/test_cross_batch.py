"""Cross-batch memory: the equation by loops over batch and memory, the rows that are kept, and edge cases."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib import InputError, build
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder, Features, Step
from sbirlib.losses.cross_batch import CrossBatch
from sbirlib.losses.supcon import SupCon
from sbirlib.testing.world import separable

DIM = 5


def step(seed: int, count: int = 6, *, labelled: bool = True, progress: float = 0.5) -> Step:
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(count, DIM, dtype=torch.float64, generator=generator).requires_grad_()
    modality = torch.arange(count) % 2
    category = torch.randint(-1, 3, (count,), generator=generator) if labelled else torch.full((count,), -1)
    instance = torch.randint(0, 4, (count,), generator=generator)
    batch = Batch(torch.empty(count, 3, 0, 0), modality, category, instance)
    return Step(Features.of(batch, embedding), encoder=Encoder(), batch=batch, progress=progress)


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
    loss = CrossBatch(vector_dim=DIM, size=size, positives=positives, temperature=0.2).double()  # type: ignore[arg-type]
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


def test_without_a_memory_it_is_supcon() -> None:
    at_hand, loss = step(1), CrossBatch(vector_dim=DIM, size=0)
    loss.after_step(at_hand)
    torch.testing.assert_close(loss(at_hand), SupCon()(at_hand))


def test_a_batch_larger_than_the_memory_leaves_its_last_rows() -> None:
    at_hand, loss = step(0, count=10), CrossBatch(vector_dim=DIM, size=4).double()
    loss.after_step(at_hand)
    torch.testing.assert_close(loss.vectors, at_hand.features.vector[-4:].detach())
    assert loss.modality.tolist() == [SKETCH, PHOTO, SKETCH, PHOTO]


def test_the_memory_is_state() -> None:
    loss, other = CrossBatch(vector_dim=DIM, size=8).double(), CrossBatch(vector_dim=DIM, size=8).double()
    loss.after_step(step(0))
    other.load_state_dict(loss.state_dict())
    loss.after_step(step(1))
    other.after_step(step(1))
    assert all(torch.equal(a, b) for a, b in zip(loss.buffers(), other.buffers(), strict=True))


def test_without_a_positive_the_loss_is_zero_with_a_gradient() -> None:
    at_hand = step(0, labelled=False)
    loss = CrossBatch(vector_dim=DIM, size=8).double()
    loss.after_step(step(1))
    value = loss(at_hand)
    value.backward()
    assert value == 0


def test_the_memory_is_empty_when_a_phase_begins() -> None:
    loss, fresh = (CrossBatch(vector_dim=DIM, size=8).double() for _ in range(2))
    loss.after_step(step(1))
    first, same = step(2, progress=0.0), step(2)
    torch.testing.assert_close(loss(first), fresh(same))
    loss.after_step(first)
    fresh.after_step(same)
    torch.testing.assert_close(loss(step(3)), fresh(step(3)))


def test_instances_are_asked_for() -> None:
    at_hand = step(1)
    at_hand.features.instance[2] = -1
    with pytest.raises(InputError, match="cross_batch has instances as positives, and some images here have none"):
        CrossBatch(vector_dim=DIM, positives="instance")(at_hand)


def test_an_average_of_the_weights_leaves_the_memory_as_it_is() -> None:
    pipeline = build(
        encoder={"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": DIM},
        losses=[{"name": "cross_batch", "size": 12}], phases=[{"steps": 5}], ema=0.9,
        transform={"size": 32}, sampler={"categories": 3, "per_modality": 2},
    )  # fmt: skip
    pipeline.fit(separable(), progress=False)
    vectors = pipeline.losses["cross_batch"].get_buffer("vectors")
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(12))
