import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder, Features, Step
from sbirlib_vtd.gate import LENGTHS, gated_cosines, gated_distances, gated_query, normalised_query, plain_gallery
from sbirlib_vtd.gate_prior import GatePrior, divergence


def inputs(queries: int, photos: int, width: int, draws: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = (F.normalize(torch.randn(n, width, generator=generator), dim=1) for n in (queries, photos))
    return a, F.normalize(torch.randn(queries, draws, width, generator=generator), dim=2), b


def naive(a: Tensor, gate: Tensor, b: Tensor) -> Tensor:
    """|psi(a) - psi(b)|^2 with psi(x) = eta * x + x, eq. 8, pair by pair: [N, S, G]."""
    return torch.stack(
        [
            torch.stack([torch.stack([((eta * x + x) - (eta * y + y)).square().sum() for y in b]) for eta in etas])
            for x, etas in zip(a, gate, strict=True)
        ]
    )


def test_two_products_equal_the_distances_one_by_one() -> None:
    a, gate, b = inputs(5, 7, 16, 3)
    slow = naive(a.double(), gate.double(), b.double())
    for s in range(3):
        torch.testing.assert_close(gated_distances(a, gate[:, s], b).double(), slow[:, s], rtol=1e-5, atol=1e-5 * float(slow.max()))
    scores = torch.einsum("nsv,gv->nsg", gated_query(a, gate), plain_gallery(b))
    torch.testing.assert_close(-scores.double(), slow, rtol=1e-5, atol=1e-5 * float(slow.max()))


def test_float32_orders_the_nearest_hundred_as_float64_does() -> None:
    a, gate, b = inputs(20, 2_000, 256, 10)
    single = torch.einsum("nsv,gv->nsg", gated_query(a, gate), plain_gallery(b)).amax(1)
    double = torch.einsum("nsv,gv->nsg", gated_query(a.double(), gate.double()), plain_gallery(b.double())).amax(1)
    assert float((single - double).abs().max() / double.abs().max()) < 1e-5
    best = double.topk(100).indices
    in_order = single.double().gather(1, best)
    apart = (double.gather(1, best)[:, :-1] - double.gather(1, best)[:, 1:]) > 1e-6 * double.abs().max()  # as far as float32 tells
    assert bool((in_order[:, :-1] > in_order[:, 1:])[apart].all())
    assert float(apart.float().mean()) > 0.95


def literal_cosine(eta: Tensor, x: Tensor, y: Tensor) -> float:
    """Cosine of psi(x) and psi(y), each divided by its length, eq. 8."""
    one, other = (eta * v + v for v in (x, y))
    return float((one / one.norm()) @ (other / other.norm()))


def test_two_products_equal_the_cosines_one_by_one() -> None:
    a, gate, b = (value.double() for value in inputs(5, 7, 16, 1))
    slow = torch.tensor([[literal_cosine(eta, x, y) for y in b] for x, eta in zip(a, 4 * gate[:, 0], strict=True)])
    torch.testing.assert_close(gated_cosines(a, 4 * gate[:, 0], b), slow.to(a), rtol=1e-6, atol=1e-6)


def test_gradients_agree_with_differences() -> None:
    a, gate, b = (value.double().requires_grad_() for value in inputs(3, 4, 5, 1))
    for function in (gated_distances, gated_cosines):
        assert torch.autograd.gradcheck(lambda x, g, y, f=function: f(x, g[:, 0], y), (a, gate, b))
    assert torch.autograd.gradcheck(lambda x, g, y: (normalised_query(x, g, 3) @ plain_gallery(y).T).amax(1), (a, gate, b))


def test_a_gate_of_minus_one_has_cosines_of_zero() -> None:
    a, gate, b = inputs(2, 3, 4, 1)
    cosines = gated_cosines(a, torch.full_like(gate[:, 0], -1.0), b)
    assert not bool(cosines.any())
    assert bool(normalised_query(a, torch.full_like(gate, -1.0), 2).isfinite().all())


@pytest.mark.parametrize("count", [4, 16, 64])
def test_search_has_the_squared_cosine_within_its_bound(count: int) -> None:
    """Never above it, below it by at most (sqrt(r) - 1)^2 of it, r the ratio of neighbouring lengths, and by less the more lengths there are."""
    generator = torch.Generator().manual_seed(0)
    a, gate = torch.rand(30, 24, generator=generator).double(), torch.randn(30, 3, 24, generator=generator).double()
    b = torch.rand(40, 24, generator=generator).double()
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    products = torch.einsum("nsv,gv->nsg", normalised_query(a, gate, count), plain_gallery(b)).unflatten(1, (3, count)).amax(2)
    cosines = torch.stack([gated_cosines(a, gate[:, s], b) for s in range(3)], 1)
    square = (1 + gate).square()
    ratio = cosines * ((square * a.square()[:, None]).sum(2)[..., None] / torch.einsum("nsv,gv->nsg", square, b.square())).sqrt()
    inside = (ratio > LENGTHS[0]) & (ratio < LENGTHS[1])
    deficit = (cosines.square() - 1 - products) / cosines.square()
    bound = ((LENGTHS[1] / LENGTHS[0]) ** (1 / (2 * count)) - 1) ** 2
    assert float(inside.double().mean()) > 0.8
    assert float(deficit.min()) > -1e-9
    assert bound / 2 < float(deficit[inside].max()) <= bound + 1e-9


def test_the_largest_product_over_all_lengths_is_minus_the_squared_sine() -> None:
    a, gate, b = (value.double() for value in inputs(1, 1, 6, 1))
    a, b = a.abs(), b.abs()
    cosine = float(gated_cosines(a, gate[:, 0], b))
    assert float((normalised_query(a, gate, 20_000) @ plain_gallery(b).T).max()) == pytest.approx(cosine**2 - 1, abs=1e-8)


def test_the_constant_of_each_draw_decides() -> None:
    """Without -sum w a^2 draws of a gate could not be compared: the best photos would be others."""
    a, gate, b = inputs(50, 200, 32, 10)
    whole = torch.einsum("nsv,gv->nsg", gated_query(a, gate), plain_gallery(b))
    without = whole - gated_query(a, gate)[..., -1:]
    assert not torch.equal(whole.amax(1).argmax(1), without.amax(1).argmax(1))


def step(mean: Tensor, log_variance: Tensor, modality: Tensor) -> Step:
    labels = torch.zeros_like(modality)
    batch = Batch(torch.zeros(len(mean), 3, 2, 2), modality, labels, labels)
    rows = {"gate_mean": mean, "gate_log_variance": log_variance}
    return Step(Features.of(batch, torch.ones(len(mean), 2), rows=rows), encoder=Encoder(), batch=batch)


def test_the_prior_equals_the_divergence_of_two_normal_distributions() -> None:
    mean, log_variance = (torch.randn(3, 4, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0))
    torch.testing.assert_close(divergence(mean, log_variance), expected)
    inputs = step(mean, log_variance, torch.tensor([SKETCH, PHOTO, SKETCH]))
    torch.testing.assert_close(GatePrior()(inputs), (expected[0].mean() + expected[2].mean()) / 2)
    torch.testing.assert_close(GatePrior(reduction="sum")(inputs), (expected[0].sum() + expected[2].sum()) / 2)
    samples = mean[[0, 2]] + (log_variance[[0, 2]] / 2).exp() * torch.randn(100_000, 2, 4, generator=torch.Generator().manual_seed(2))
    assert math.isclose(float(inputs.logged["gate_rms"]), float(samples.square().mean().sqrt()), rel_tol=0.01)
    assert math.isclose(float(inputs.logged["gate_mean_rms"]), float(mean[[0, 2]].square().mean().sqrt()), rel_tol=1e-5)


@pytest.mark.parametrize("count", [0, 2])
def test_without_a_sketch_it_is_zero_with_a_gradient(count: int) -> None:
    mean, log_variance = (torch.randn(count, 4, requires_grad=True) for _ in range(2))
    for prior in (GatePrior(), GatePrior(reduction="sum")):
        value = prior(step(mean, log_variance, torch.full((count,), PHOTO)))
        assert float(value) == 0
        value.backward()


def test_the_weight_of_the_paper_hardly_pulls_at_mu_under_the_mean() -> None:
    """The length of the gradient of 0.004 L_con in mu, where all of mu is 1, in 1,280 dimensions."""
    mean = torch.ones(1, 1280, requires_grad=True)
    pulls = {}
    for prior in (GatePrior(), GatePrior(reduction="sum")):
        value = prior(step(mean, torch.zeros(1, 1280), torch.tensor([SKETCH])))
        pulls[prior.reduction] = float(torch.autograd.grad(0.004 * value, mean)[0].norm())
    assert pulls["sum"] == pytest.approx(1280 * pulls["mean"], rel=1e-4)
    assert pulls["mean"] < 0.002 < 0.1 < pulls["sum"]
