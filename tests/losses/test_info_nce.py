import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder, Features, Step
from sbirlib.losses.info_nce import InfoNce, info_nce
from sbirlib.spec import part

MODALITY = torch.tensor([SKETCH, PHOTO, SKETCH, PHOTO, PHOTO, SKETCH, SKETCH, PHOTO])
INSTANCE = torch.tensor([0, 0, 1, 1, 2, 2, 1, 1])  # instance 1 has two sketches, and its photo is there twice


def step(embedding: Tensor, modality: Tensor = MODALITY, instance: Tensor = INSTANCE, view: Tensor | None = None) -> Step:
    batch = Batch(torch.empty(len(modality), 3, 0, 0), modality, torch.zeros_like(modality), instance)
    features = Features.of(batch, embedding)
    if view is not None:
        features.view.copy_(view)
    return Step(features, encoder=Encoder(), batch=batch)


def rows(count: int = 8) -> Tensor:
    return torch.randn(count, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()


def literal(embedding: Tensor, modality: Tensor, instance: Tensor, temperature: float, anchors: int) -> Tensor:
    """van den Oord et al. 2018, eq. 4: for each anchor and each positive, minus the log of its share, by loops over cosines."""
    terms = []
    for i in range(len(modality)):
        for j in range(len(modality)):
            if modality[i] == anchors and modality[j] != anchors and instance[i] == instance[j]:
                scores = {
                    n: torch.exp(F.cosine_similarity(embedding[i], embedding[n], dim=0) / temperature)
                    for n in range(len(modality))
                    if modality[n] != anchors and (n == j or instance[n] != instance[i])
                }
                terms.append(-torch.log(scores[j] / torch.stack(list(scores.values())).sum()))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("symmetric", [True, False])
def test_equals_the_equation_in_value_and_gradient(symmetric: bool) -> None:
    embedding = rows()
    ours = InfoNce(temperature=0.2, symmetric=symmetric)(step(embedding))
    theirs = literal(embedding, MODALITY, INSTANCE, 0.2, SKETCH)
    if symmetric:
        theirs = (theirs + literal(embedding, MODALITY, INSTANCE, 0.2, PHOTO)) / 2
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    (mine,), (other,) = (torch.autograd.grad(value, embedding) for value in (ours, theirs))
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_with_one_photo_an_instance_it_is_the_cross_entropy_of_clip() -> None:
    """Radford et al. 2021, figure 3: cross entropies over the rows and over the columns of one matrix of cosines."""
    embedding = rows(12)
    modality, instance = torch.arange(12) % 2, torch.arange(12) // 2
    sketches, photos = (F.normalize(embedding[modality == m], dim=1) for m in (SKETCH, PHOTO))
    logits, labels = sketches @ photos.T / 0.07, torch.arange(6)
    expected = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    torch.testing.assert_close(InfoNce()(step(embedding, modality, instance)), expected, rtol=1e-5, atol=1e-6)


def test_distances_of_the_encoder_are_read() -> None:
    at_hand = step(rows())
    distances = (1.3 * at_hand.distances).detach().requires_grad_()
    at_hand.distances = distances
    InfoNce()(at_hand).backward()
    assert distances.grad is not None
    crossed = MODALITY[:, None] != MODALITY
    assert bool(distances.grad[crossed].any())
    assert not bool(distances.grad[~crossed].any())  # sketches are not compared with sketches


def test_rows_of_other_views_do_not_count() -> None:
    view = torch.zeros(8, dtype=torch.int64)
    view[[3, 6]] = 1
    keep = view == 0
    expected = InfoNce()(step(rows()[keep], MODALITY[keep], INSTANCE[keep]))
    torch.testing.assert_close(InfoNce()(step(rows(), view=view)), expected)


def test_gradients_agree_with_differences() -> None:
    same = INSTANCE[MODALITY == SKETCH][:, None] == INSTANCE[MODALITY == PHOTO]
    logits = torch.randn(same.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: info_nce(z, same), (logits,))


@pytest.mark.parametrize(
    "keep", [[], [0], [0, 2], [1, 3], [0, 1], [0, 4]], ids=["no row", "one", "sketches", "photos", "one pair", "no pair"]
)
@pytest.mark.parametrize("learnt", [True, False])
def test_without_another_or_without_a_pair_it_is_zero_with_a_gradient(keep: list[int], learnt: bool) -> None:
    embedding = rows()
    value = InfoNce(learnt=learnt)(step(embedding[keep], MODALITY[keep], INSTANCE[keep]))
    assert value.item() == 0
    value.backward()
    assert embedding.grad is not None
    assert bool(embedding.grad.isfinite().all())


def test_a_pair_without_another_is_a_term_of_zero() -> None:
    same = torch.tensor([[True, False], [True, True]])
    logits = torch.tensor([[0.3, 0.1], [0.5, 0.2]])
    assert float(info_nce(logits, same)) == pytest.approx(-math.log(math.exp(0.3) / (math.exp(0.3) + math.exp(0.1))) / 3)


def test_large_logits_stay_finite() -> None:
    same = torch.eye(3, dtype=torch.bool)
    logits = torch.full((3, 3), 1e4).fill_diagonal_(-1e4).requires_grad_()
    value = info_nce(logits, same)
    value.backward()
    assert float(value.detach()) == pytest.approx(2e4, rel=1e-3)
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_a_temperature_that_is_learnt_has_a_gradient_is_logged_and_bounded() -> None:
    loss = InfoNce(temperature=0.05, learnt=True)
    at_hand = step(rows())
    loss(at_hand).backward()
    assert float(at_hand.logged["temperature"]) == pytest.approx(0.05)
    assert loss.log_scale.grad is not None
    assert float(loss.log_scale.grad) != 0
    with torch.no_grad():
        loss.log_scale.fill_(9.0)
    loss.after_step(at_hand)
    assert float(loss.log_scale.detach().neg().exp()) == pytest.approx(0.01)
    fixed = InfoNce(temperature=0.05)
    assert not list(fixed.parameters())
    assert not fixed.state_dict()
    torch.testing.assert_close(fixed(at_hand), InfoNce(temperature=0.05, learnt=True)(at_hand))


def test_bad_use_is_refused(make_step: Callable[..., Step]) -> None:
    with pytest.raises(InputError, match="InfoNce: temperature = 0.001: expected a number of at least 0.01"):
        InfoNce(temperature=0.001)
    with pytest.raises(InputError, match="info_nce needs the instance of each image, and some images here have none"):
        part("loss", "info_nce")(make_step(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)))
