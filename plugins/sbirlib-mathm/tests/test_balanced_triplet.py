import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.interfaces import Batch, Encoder, Features, Step
from sbirlib_mathm.balanced_triplet import BalancedTriplet, weights
from sbirlib_mathm.modality_hard import ModalityHard

KINDS = ("cross", "within", "hybrid")
GOLDEN = {"within": 0.6603392829, "cross": 0.6019925742, "hybrid": 0.6320011683}
GOLDEN_SOFT = {"within": 0.6603506571, "cross": 0.6019958740, "hybrid": 0.6320057861}


def step_of(embedding: Tensor, modality: Tensor, category: Tensor, kinds: Sequence[str] = KINDS) -> Step:
    batch = Batch(torch.empty(len(category), 3, 0, 0), modality, category, torch.full_like(category, -1))
    return Step(Features.of(batch, embedding), encoder=Encoder(), batch=batch, miner=ModalityHard(kinds=kinds))  # type: ignore[arg-type]


def golden_batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(32, 16, dtype=torch.float64)
    return x.requires_grad_(), torch.tensor([0] * 4 + [1] * 4).repeat(4), torch.arange(4).repeat_interleave(8)


def uneven_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Classes apart, and modalities apart within a class: hybrid is all active, the others partly."""
    torch.manual_seed(1)
    _, modality, category = golden_batch()
    x = 3.0 * torch.eye(4, 16, dtype=torch.float64)[category] + 0.55 * torch.randn(32, 16, dtype=torch.float64)
    x[:, 10] += 2.5 * modality
    return x.requires_grad_(), modality, category


def literal(
    x: Tensor, modality: Tensor, category: Tensor, *, margin: float, floor: float, beta: float | None
) -> dict[str, dict[str, Tensor]]:
    """Eq. 4 to 13 word by word, over lists; `beta` takes softplus and sigmoid."""
    z, m, y = F.normalize(x, dim=1), modality.tolist(), category.tolist()
    d, rows = (z[:, None] - z).norm(dim=2), range(len(y))
    near = d.tolist()
    loss, g = {}, {}
    for kind in KINDS:
        terms, signs = [], []
        for a in rows:
            m_p = m[a] if kind == "within" else 1 - m[a]
            m_n = 1 - m[a] if kind == "cross" else m[a]
            pos = max((i for i in rows if i != a and y[i] == y[a] and m[i] == m_p), key=lambda i: near[a][i])
            neg = min((j for j in rows if y[j] != y[a] and m[j] == m_n), key=lambda j: near[a][j])
            v = d[a, pos] - d[a, neg] + margin
            terms.append(v.clamp(min=0) if beta is None else torch.log1p(torch.exp(beta * v)) / beta)
            active = near[a][pos] - near[a][neg] + margin
            signs.append(float(active > 0) if beta is None else 1 / (1 + math.exp(-beta * active)))
        loss[kind], g[kind] = torch.stack(terms).mean(), torch.tensor(sum(signs) / len(signs), dtype=x.dtype)
    w = {i: sum((g[k] for k in KINDS), torch.zeros((), dtype=x.dtype)) / 3 / max(float(g[i]), floor) for i in KINDS}
    return {"L": loss, "g": g, "w": w}


@pytest.mark.parametrize("soft", [False, True])
def test_golden_values(soft: bool) -> None:
    step = step_of(*golden_batch())
    terms = BalancedTriplet(margin=0.2, soft=soft)(step)
    for kind, expected in (GOLDEN_SOFT if soft else GOLDEN).items():
        assert float(step.logged[f"L_{kind}"]) == pytest.approx(expected, abs=1e-9)
        assert float(step.logged[f"g_{kind}"]) == pytest.approx(1, abs=1e-2 if soft else 0)
        if not soft:
            assert float(terms[kind].detach()) == pytest.approx(expected, abs=1e-9)
            assert step.logged[f"w_{kind}"] == 1


@pytest.mark.parametrize("beta", [None, 20.0, 5.0])
@pytest.mark.parametrize("floor", [0.1, 0.6])
@pytest.mark.parametrize("batch", [golden_batch, uneven_batch], ids=["equal g", "unequal g"])
def test_equals_equations_9_to_13_in_value_and_gradient(batch, floor: float, beta: float | None) -> None:  # type: ignore[no-untyped-def]
    x, modality, category = batch()
    expected = literal(x, modality, category, margin=0.2, floor=floor, beta=beta)
    step = step_of(x, modality, category)
    loss = BalancedTriplet(margin=0.2, floor=floor, soft=beta is not None, beta=beta or 20.0)
    terms = loss(step)
    assert tuple(terms) == KINDS
    for kind in KINDS:
        for name in ("L", "g", "w"):
            torch.testing.assert_close(step.logged[f"{name}_{kind}"], expected[name][kind].detach(), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(terms[kind], expected["w"][kind] * expected["L"][kind], atol=1e-6, rtol=1e-6)
    gradients = [torch.autograd.grad(expected["L"][kind], x, retain_graph=True)[0] for kind in KINDS]
    weighted = sum(expected["w"][kind] * gradient for kind, gradient in zip(KINDS, gradients, strict=True))
    (total,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), x)
    torch.testing.assert_close(total, weighted, atol=1e-6, rtol=1e-6)


def stacked_mean(x: Tensor, modality: Tensor, category: Tensor, kinds: Sequence[str]) -> Tensor:
    """The released code's unweighted loss: the mean of 3 N hinges, of which those of the first kind, detached, fill up a row with fewer kinds."""
    losses = literal(x, modality, category, margin=0.2, floor=0.1, beta=None)["L"]
    stack = [losses[kind] for kind in kinds]
    return torch.stack(stack + [stack[0].detach()] * (3 - len(stack))).mean()


@pytest.mark.parametrize("kinds", [["cross"], ["within"], ["hybrid"], ["cross", "hybrid"], KINDS], ids="+".join)
def test_the_mean_trains_by_the_gradient_of_three_stacked_terms(kinds: Sequence[str]) -> None:
    x, modality, category = uneven_batch()
    (expected,) = torch.autograd.grad(stacked_mean(x, modality, category, kinds), x)
    terms = BalancedTriplet(weighting=False, scale="mean")(step_of(x, modality, category, kinds))
    (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), x)
    assert expected.any()
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("weighting", [False, True])
@pytest.mark.parametrize("kinds", [["within"], KINDS], ids="+".join)
def test_the_mean_is_a_third_of_the_printed_sum(kinds: Sequence[str], weighting: bool) -> None:
    x, modality, category = uneven_batch()
    expected = literal(x, modality, category, margin=0.2, floor=0.1, beta=None)
    w = expected["w"] if weighting and len(kinds) > 1 else dict.fromkeys(kinds, torch.ones(()))
    for scale, divisor in (("sum", 1), ("mean", 3)):
        step = step_of(x, modality, category, kinds)
        terms = BalancedTriplet(weighting=weighting, scale=scale)(step)  # type: ignore[arg-type]
        assert tuple(terms) == tuple(kinds)
        for kind in kinds:
            torch.testing.assert_close(terms[kind].double(), w[kind] * expected["L"][kind] / divisor, atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(step.logged[f"L_{kind}"].double(), expected["L"][kind].detach(), atol=1e-6, rtol=1e-6)


def test_shares_of_the_gradient_are_equal_and_keep_their_sum() -> None:
    step = step_of(*uneven_batch())
    BalancedTriplet()(step)
    g, w = (torch.stack([step.logged[f"{name}_{kind}"] for kind in KINDS]) for name in "gw")
    assert len(set(g.tolist())) > 1
    assert g.min() > 0.1
    torch.testing.assert_close(w * g, g.mean().expand(3))
    torch.testing.assert_close((w * g).sum(), g.sum())


@pytest.mark.parametrize(
    ("g", "expected"),
    [
        ([0.2, 0.4, 0.6], [2.0, 1.0, 2 / 3]),
        ([0.5, 0.5, 0.5], [1.0, 1.0, 1.0]),
        ([0.0, 0.3, 0.6], [3.0, 1.0, 0.5]),  # 0.3 / 0.1, where eq. 13 has 0.3 / 0
        ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
        ([0.4], [1.0]),
    ],
)
def test_weights(g: list[float], expected: list[float]) -> None:
    torch.testing.assert_close(weights(torch.tensor(g), 0.1), torch.tensor(expected))


def test_without_weighting_the_terms_are_the_losses() -> None:
    step = step_of(*uneven_batch())
    terms = BalancedTriplet(weighting=False)(step)
    for kind in KINDS:
        assert torch.equal(terms[kind].detach(), step.logged[f"L_{kind}"])
        assert step.logged[f"w_{kind}"] == 1


def test_satisfied_triplets_cost_nothing_and_weigh_one() -> None:
    _, modality, category = golden_batch()
    x = torch.eye(4, dtype=torch.float64)[category].requires_grad_()
    step = step_of(x, modality, category)
    terms = BalancedTriplet()(step)
    (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), x)
    assert all(value == 0 for value in terms.values())
    assert all(step.logged[f"w_{kind}"] == 1 for kind in KINDS)
    assert (gradient == 0).all()


def test_a_kind_without_triplets_is_zero_and_does_not_count() -> None:
    x = torch.randn(4, 8, dtype=torch.float64, requires_grad=True)  # one sketch and one photo a class: no within
    step = step_of(x, torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1]))
    terms = BalancedTriplet(margin=3.0)(step)
    assert terms["within"] == 0
    assert terms["within"].requires_grad
    assert step.logged["w_cross"] == step.logged["w_within"] == step.logged["w_hybrid"] == 1
    assert step.logged["g_cross"] == step.logged["g_hybrid"] == 1


def test_nothing_mined_is_zero_with_a_gradient() -> None:
    x = torch.randn(3, 8, requires_grad=True)
    terms = BalancedTriplet()(step_of(x, torch.tensor([0, 1, 0]), torch.tensor([0, 0, 0])))
    (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), x)
    assert list(terms) == list(KINDS)
    assert (gradient == 0).all()


def test_weights_carry_no_gradient_and_float32_is_kept() -> None:
    x, modality, category = uneven_batch()
    step = step_of(x.detach().bfloat16(), modality, category)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = BalancedTriplet(soft=True)(step)
    assert all(value.dtype == torch.float32 for value in terms.values())
    assert not any(value.requires_grad for value in step.logged.values())
