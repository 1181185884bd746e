import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.interfaces import Step, Triplets
from sbirlib.losses.triplet import Triplet

MakeStep = Callable[..., Step]
CATEGORY = torch.tensor([0, 0, 1, 1, 2, 2])


def triplets(*rows: tuple[int, int, int]) -> Triplets:
    columns = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3).T
    return Triplets(columns[0], columns[1], columns[2])


def some() -> dict[str, Triplets]:
    return {"a": triplets((0, 1, 2), (1, 0, 5), (4, 5, 0)), "b": triplets((2, 3, 1)), "none": triplets()}


def literal(embedding: Tensor, chosen: Triplets, margin: float, soft: bool, power: int = 1) -> Tensor:
    x = F.normalize(embedding, dim=1)
    terms = []
    for a, p, n in zip(chosen.anchor.tolist(), chosen.positive.tolist(), chosen.negative.tolist(), strict=True):
        violation = (x[a] - x[p]).norm() ** power - (x[a] - x[n]).norm() ** power + margin
        terms.append(torch.log(1 + torch.exp(violation)) if soft else violation.clamp(min=0))
    return torch.stack(terms).mean() if terms else torch.zeros((), dtype=embedding.dtype)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kind", [None, "a", "b", "none"])
def test_equals_its_equation_in_value_and_gradient(make_step: MakeStep, kind: str | None, soft: bool) -> None:
    torch.manual_seed(0)
    embedding = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    value = Triplet(margin=0.3, kind=kind, soft=soft)(make_step(embedding, CATEGORY, some()))
    expected = torch.stack([literal(embedding, t, 0.3, soft) for name, t in some().items() if kind in (None, name)]).sum()
    torch.testing.assert_close(value, expected)
    if kind != "none":
        torch.testing.assert_close(torch.autograd.grad(value, embedding), torch.autograd.grad(expected, embedding))


def test_squared_distances_take_their_place(make_step: MakeStep) -> None:
    embedding = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = Triplet(margin=0.3, squared=True)(make_step(embedding, CATEGORY, some()))
    expected = torch.stack([literal(embedding, t, 0.3, soft=False, power=2) for t in some().values()]).sum()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, embedding), torch.autograd.grad(expected, embedding))


def test_a_worked_example(make_step: MakeStep) -> None:
    def at(degrees: float) -> list[float]:
        return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]

    embedding = torch.tensor([at(0), at(60), at(90)], dtype=torch.float64)  # 1 to the positive, sqrt(2) to the negative
    step = make_step(embedding, torch.tensor([0, 0, 1]), {"hard": triplets((0, 1, 2))})
    assert float(Triplet(margin=0.5)(step)) == pytest.approx(1 - math.sqrt(2) + 0.5)
    assert Triplet(margin=0.2)(step) == 0


@pytest.mark.parametrize("chosen", [{}, {"hard": triplets()}])
def test_nothing_mined_is_zero_with_a_gradient(make_step: MakeStep, chosen: dict[str, Triplets]) -> None:
    embedding = torch.randn(6, 4, requires_grad=True)
    value = Triplet()(make_step(embedding, CATEGORY, chosen))
    value.backward()
    assert value == 0
    assert embedding.grad is not None
    assert not embedding.grad.any()


def test_half_distances_are_promoted(make_step: MakeStep) -> None:
    step = make_step(torch.randn(6, 4), CATEGORY, some())
    step.distances = torch.rand(6, 6).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Triplet()(step).dtype == torch.float32


def test_an_unknown_kind_is_named(make_step: MakeStep) -> None:
    with pytest.raises(InputError, match="no triplets of kind 'hards'; did you mean 'hard'"):
        Triplet(kind="hards")(make_step(torch.randn(6, 4), CATEGORY, {"hard": triplets()}))


def test_no_miner_is_said(make_step: MakeStep) -> None:
    with pytest.raises(ValueError, match="the recipe has no miner"):
        Triplet()(make_step(torch.randn(6, 4), CATEGORY))
