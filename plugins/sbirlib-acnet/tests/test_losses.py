"""Every loss against a literal transcription of its equation."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sbirlib.data.transforms import Sbir
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Step
from sbirlib.losses.norm_softmax import NormSoftmax
from sbirlib.testing.world import Plain, separable
from sbirlib_acnet.cycle import Cycle
from sbirlib_acnet.patch_adversary import PatchAdversary
from sbirlib_acnet.photo_identity import PhotoIdentity
from sbirlib_acnet.synthesis import Synthesis, Translator

MODALITY = [SKETCH, PHOTO, PHOTO, SKETCH, PHOTO]


def batch(modality: list[int] = MODALITY) -> Batch:
    images = torch.rand(len(modality), 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    count = torch.arange(len(modality))
    return Batch(images, torch.tensor(modality), count // 2, count // 2)


def step_of(inputs: Batch) -> Step:
    torch.manual_seed(0)
    encoder = Translator(channels=2, blocks=1).double()
    return Step(encoder(inputs), encoder=encoder, batch=inputs)


def synthesised(step: Step, i: int) -> Tensor:
    """G of image i, as the paper has images: in [-1, 1]."""
    image: Tensor = step.local.extra["translator"](step.batch.images[i : i + 1])[0]
    return 2 * image - 1


def original(step: Step, i: int) -> Tensor:
    return 2 * step.batch.images[i] - 1


def mean(values: list[Tensor]) -> float:
    return float(sum(v.mean() for v in values) / max(len(values), 1))


def rows(step: Step, modality: int) -> list[int]:
    return [i for i, m in enumerate(step.batch.modality.tolist()) if m == modality]


@pytest.mark.parametrize("modality", [MODALITY, [SKETCH] * 2, [PHOTO] * 3])
@pytest.mark.parametrize("kind", ["lsgan", "bce"])
def test_the_adversary_is_equation_1(kind: str, modality: list[int]) -> None:
    step = step_of(batch(modality))
    loss = PatchAdversary(kind=kind, channels=2).double()  # type: ignore[arg-type]

    def d(image: Tensor) -> Tensor:
        """D of an image in [-1, 1], for each patch."""
        logits: Tensor = loss.discriminator((image[None] + 1) / 2)[0, 0]
        return logits if kind == "lsgan" else 1 / (1 + (-logits).exp())

    real, fake = [d(original(step, i)) for i in rows(step, PHOTO)], [d(synthesised(step, i)) for i in rows(step, SKETCH)]
    if kind == "lsgan":
        turn = (mean([(v - 1) ** 2 for v in real]) + mean([v**2 for v in fake])) / 2
        generator = mean([(v - 1) ** 2 for v in fake])
    else:  # eq. 1 with its sign changed, halved as the released code halves its own
        turn = -(mean([v.log() for v in real]) + mean([(1 - v).log() for v in fake])) / 2
        generator = -mean([v.log() for v in fake])
    assert float(loss.discriminator_loss(step)) == pytest.approx(turn, abs=1e-9)
    assert float(loss(step)) == pytest.approx(generator, abs=1e-9)


@pytest.mark.parametrize("modality", [MODALITY, [SKETCH] * 2, [PHOTO] * 3])
def test_the_identity_is_equation_2(modality: list[int]) -> None:
    step = step_of(batch(modality))
    wanted = mean([(synthesised(step, i) - original(step, i)).abs() for i in rows(step, PHOTO)])
    assert float(PhotoIdentity()(step)) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("modality", [MODALITY, [SKETCH] * 2, [PHOTO] * 3])
def test_the_cycle_leads_back_from_both_sides(modality: list[int]) -> None:
    step = step_of(batch(modality))
    loss = Cycle(channels=2, blocks=1).double()

    def g(network: Any, image: Tensor) -> Tensor:
        mapped: Tensor = network((image[None] + 1) / 2)[0]
        return 2 * mapped - 1

    forth, back = step.local.extra["translator"], loss.inverse
    there = [(g(back, g(forth, original(step, i))) - original(step, i)).abs() for i in rows(step, SKETCH)]
    again = [(g(forth, g(back, original(step, i))) - original(step, i)).abs() for i in rows(step, PHOTO)]
    terms = loss(step)
    assert float(terms["cycle"]) == pytest.approx(mean(there) + mean(again), abs=1e-9)

    def d(image: Tensor) -> Tensor:
        judged: Tensor = loss.discriminator((image[None] + 1) / 2)
        return judged

    fake = [d(g(back, original(step, i))) for i in rows(step, PHOTO)]
    real = [d(original(step, i)) for i in rows(step, SKETCH)]
    assert float(terms["sketch_adversary"]) == pytest.approx(mean([(v - 1) ** 2 for v in fake]), abs=1e-9)
    identity = [(g(back, original(step, i)) - original(step, i)).abs() for i in rows(step, SKETCH)]
    assert float(terms["sketch_identity"]) == pytest.approx(mean(identity), abs=1e-9)
    turn = (mean([(v - 1) ** 2 for v in real]) + mean([v**2 for v in fake])) / 2
    assert float(loss.discriminator_loss(step)) == pytest.approx(turn, abs=1e-9)


def test_the_cycle_error_falls_by_half_while_its_opponent_trains() -> None:
    torch.manual_seed(0)
    data, rows = separable(), [0, 20]
    sides = [
        torch.stack([Sbir(size=32).prepare(part.read(i), int(part.modality[i])) for i in rows]) for part in (data.sketches, data.photos)
    ]
    labels = torch.arange(4)
    inputs = Batch(torch.cat(sides).float() / 255, torch.tensor([SKETCH, SKETCH, PHOTO, PHOTO]), labels, labels)
    translator, loss = Translator(channels=8, blocks=0), Cycle(channels=8, blocks=0)
    optimizer = torch.optim.Adam([*translator.parameters(), *loss.inverse.parameters()], lr=1e-2)
    opponent = torch.optim.Adam(loss.discriminator.parameters(), lr=1e-3)
    errors = []
    for _ in range(50):
        step = Step(translator(inputs), encoder=translator, batch=inputs)
        terms = loss(step)
        optimizer.zero_grad()
        (10 * terms["cycle"] + terms["sketch_adversary"]).backward()
        optimizer.step()
        opponent.zero_grad()
        loss.discriminator_loss(step.detach()).backward()
        opponent.step()
        errors.append(terms["cycle"].item())
    assert errors[-1] < errors[0] / 2


def test_norm_softmax_gives_the_three_terms_of_equation_5() -> None:
    torch.manual_seed(0)
    inputs = batch()
    synthesis = Synthesis(encoder=Plain(dim=8), channels=2, blocks=1).train()
    step = Step(synthesis(Batch(inputs.images.float(), inputs.modality, inputs.category, inputs.instance)), encoder=synthesis, batch=inputs)
    loss = NormSoftmax(dim=8, categories=3, apart=True)
    proxies = [p / p.norm() for p in loss.proxies.detach()]

    def literal(row: int) -> float:
        x = step.features.embedding[row].detach()
        cosines = [float(x @ p / x.norm()) / 0.05 for p in proxies]
        return -math.log(math.exp(cosines[int(step.features.category[row])]) / sum(math.exp(c) for c in cosines))

    terms = loss(step)
    assert isinstance(terms, dict)
    sketches = [0, 3]
    for term, own in {"sketch": sketches, "photo": [1, 2, 4], "synthesised": [5, 6]}.items():
        assert float(terms[term].detach()) == pytest.approx(sum(map(literal, own)) / len(own), rel=1e-4)
    together = NormSoftmax(dim=8, categories=3)
    together.load_state_dict(loss.state_dict())
    whole = together(step)
    assert isinstance(whole, Tensor)
    parts = {name: float(value.detach()) for name, value in terms.items()}
    assert float(whole.detach()) == pytest.approx((2 * parts["sketch"] + 3 * parts["photo"] + 2 * parts["synthesised"]) / 7, rel=1e-5)


class Grey(nn.Module):
    """A pool of grey images."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.full_like(images, 0.25)


@pytest.mark.parametrize(("loss", "real"), [(PatchAdversary(channels=2, pool=9), PHOTO), (Cycle(channels=2, blocks=1, pool=9), SKETCH)])
def test_the_pool_is_read_in_the_discriminators_turn_alone(loss: PatchAdversary | Cycle, real: int) -> None:
    step, loss = step_of(batch()), loss.double()
    before = loss(step)
    loss.discriminator_loss(step)
    assert int(loss.pool.get_buffer("count")) == len(rows(step, 1 - real)), "every image of the generator is kept"
    loss.pool = Grey()
    judged = [loss.discriminator(step.batch.images[i : i + 1]) for i in rows(step, real)]
    grey = loss.discriminator(torch.full((1, 3, 32, 32), 0.25, dtype=torch.float64))
    turn = (mean([(v - 1) ** 2 for v in judged]) + mean([grey**2])) / 2
    assert float(loss.discriminator_loss(step)) == pytest.approx(turn, abs=1e-9)
    torch.testing.assert_close(loss(step), before)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="kind = 'wgan': expected one of 'lsgan', 'bce'"):
        PatchAdversary(kind="wgan")  # type: ignore[arg-type]
