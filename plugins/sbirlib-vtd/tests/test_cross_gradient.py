import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Encoder, Features, Miner, Step, Triplets
from sbirlib_vtd.cross_gradient import CrossGradient
from sbirlib_vtd.networks import small


class Flat(Encoder):
    """Pixels times a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = self.vector_dim = 4
        self.layer = nn.Linear(3 * 64 * 64, 4)

    def forward(self, batch: Batch) -> Features:
        return Features.of(batch, self.layer(batch.images.flatten(1)))


class First(Miner):
    """Row 0 is the anchor, row 1 its positive, row 2 its negative."""

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        rows = torch.arange(3)
        return {"first": Triplets(*rows[:, None])}


class Nothing(Miner):
    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        return {}


def world(miner: Miner) -> tuple[CrossGradient, Step, Flat]:
    torch.manual_seed(0)
    encoder, loss = Flat(), CrossGradient(categories=2, margin=5.0, step_size=3.0, share=0.25, channels=2).eval()
    labels = torch.tensor([0, 1, 1])
    batch = Batch(torch.rand(3, 3, 64, 64), labels, labels, torch.arange(3))
    return loss, Step(encoder(batch), encoder=encoder, batch=batch, miner=miner), encoder


def test_it_is_the_algorithm_word_for_word() -> None:
    loss, step, encoder = world(First())

    def label(x: Tensor) -> Tensor:
        v = F.normalize(encoder.layer(x.flatten(1)), dim=1)
        violation: Tensor = (v[0] - v[1]).square().sum().sqrt() - (v[0] - v[2]).square().sum().sqrt() + 5
        return violation.relu()

    def domain(x: Tensor) -> list[Tensor]:
        return [F.cross_entropy(loss.classifier(loss.network(small(x[i : i + 1]))), step.batch.category[i : i + 1]) for i in range(3)]

    x = step.batch.images.clone().requires_grad_()
    gradient_d = torch.stack([torch.autograd.grad(domain(x)[i], x)[0][i] for i in range(3)])
    gradient_l = torch.autograd.grad(label(x), x)[0] * 3  # one triplet for three images: its mean over images, three times
    terms = loss(step)
    torch.testing.assert_close(terms["label"], label(step.batch.images + 3 * gradient_d))
    expected = 0.75 * torch.stack(domain(x)).mean() + 0.25 * torch.stack(domain(x + 3 * gradient_l)).mean()
    torch.testing.assert_close(terms["domain"], expected)


def test_each_term_trains_its_own_network() -> None:
    loss, step, encoder = world(First())
    terms = loss(step)
    terms["label"].backward()
    assert encoder.layer.weight.grad is not None
    assert encoder.layer.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in loss.parameters())
    encoder.zero_grad()
    terms["domain"].backward()
    assert all(p.grad is None for p in encoder.parameters())
    assert all(p.grad is not None for p in loss.parameters())


def test_moving_raises_the_loss_that_it_follows() -> None:
    loss, step, _ = world(First())
    images = step.batch.images.clone().requires_grad_()
    before = loss._domain_losses(images, step.batch.category).sum()
    assert loss._domain_losses(loss._perturbed(images, before), step.batch.category).sum() > before


def test_without_triplets_the_label_term_is_zero() -> None:
    loss, step, _ = world(Nothing())
    terms = loss(step)
    assert float(terms["label"].detach()) == 0
    terms["label"].backward()


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="share = 2: expected a number of at least 0 and of at most 1"):
        CrossGradient(categories=3, share=2)
    with pytest.raises(InputError, match="step_size = -1: expected a number of at least 0"):
        CrossGradient(categories=3, step_size=-1)
