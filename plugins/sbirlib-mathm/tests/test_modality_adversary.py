import math
from collections.abc import Sequence

import pytest
import torch

from sbirlib.interfaces import Batch, Encoder, Features, Step
from sbirlib_mathm.modality_adversary import ModalityAdversary


def step_of(embedding: torch.Tensor, modality: Sequence[int]) -> Step:
    labels = torch.zeros(len(modality), dtype=torch.int64)
    batch = Batch(torch.empty(len(modality), 3, 0, 0), torch.tensor(modality, dtype=torch.int64), labels, labels)
    return Step(Features.of(batch, embedding), encoder=Encoder(), batch=batch)


def literal(embedding: torch.Tensor, modality: Sequence[int], loss: ModalityAdversary) -> tuple[float, float]:
    """The objectives of eq. 14 and eq. 15, which are maximised, with their sign changed, by loops."""
    weight, bias = loss.discriminator.weight[0].detach(), loss.discriminator.bias[0].detach()
    d = [1 / (1 + math.exp(-float(row @ weight + bias))) for row in embedding]
    photos, sketches = ([d[i] for i, m in enumerate(modality) if m == side] for side in (1, 0))

    def mean(values: list[float]) -> float:
        return sum(values) / max(len(values), 1)

    discriminator = mean([math.log(p) for p in photos]) + mean([math.log(1 - s) for s in sketches])
    generator = mean([math.log(1 - p) for p in photos]) + mean([math.log(s) for s in sketches])
    return -discriminator, -generator


@pytest.mark.parametrize("modality", [[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
def test_both_turns_are_equations_14_and_15(modality: list[int]) -> None:
    torch.manual_seed(0)
    loss = ModalityAdversary(dim=6).double()
    embedding = torch.randn(5, 6, dtype=torch.float64)
    step = step_of(embedding, modality)
    discriminator, generator = literal(embedding, modality, loss)
    assert float(loss.discriminator_loss(step)) == pytest.approx(discriminator, abs=1e-9)
    assert float(loss(step)) == pytest.approx(generator, abs=1e-9)


def test_the_discriminator_learns_modalities_and_the_encoder_unlearns_them() -> None:
    torch.manual_seed(0)
    modality = [0, 1] * 40
    embedding = torch.randn(80, 6) + 2 * torch.tensor(modality)[:, None]
    loss = ModalityAdversary(dim=6)
    opponent = torch.optim.Adam(loss.discriminator.parameters(), lr=0.05)
    for _ in range(100):
        opponent.zero_grad()
        torch.as_tensor(loss.discriminator_loss(step_of(embedding, modality))).backward()
        opponent.step()
    step = step_of(embedding, modality)
    loss(step)
    assert float(step.logged["modality_accuracy"]) > 0.9
    position = embedding.clone().requires_grad_()
    encoder = torch.optim.Adam([position], lr=0.05)
    for _ in range(100):
        encoder.zero_grad()
        torch.as_tensor(loss(step_of(position, modality))).backward()
        encoder.step()
    step = step_of(position, modality)
    loss(step)
    assert float(step.logged["modality_accuracy"]) < 0.5
