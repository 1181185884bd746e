import math
from collections.abc import Callable

import torch
from pytorch_metric_learning.losses import NormalizedSoftmaxLoss

from sbirlib.interfaces import Step
from sbirlib.losses.norm_softmax import NormSoftmax

MakeStep = Callable[..., Step]


def test_equals_its_equation(make_step: MakeStep) -> None:
    torch.manual_seed(0)
    embedding, category = torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])
    loss = NormSoftmax(dim=5, categories=3, temperature=0.1).double()
    expected = 0.0
    for x, y in zip(embedding, category.tolist(), strict=True):
        cosines = [float(x @ p / (x.norm() * p.norm())) for p in loss.proxies.detach()]
        expected -= math.log(math.exp(cosines[y] / 0.1) / sum(math.exp(c / 0.1) for c in cosines)) / 6
    assert math.isclose(float(loss(make_step(embedding, category))), expected, rel_tol=1e-9)


def test_equals_pml_value_and_gradients(make_step: MakeStep) -> None:
    torch.manual_seed(0)
    embedding = torch.randn(8, 5, dtype=torch.float64, requires_grad=True)
    category = torch.arange(8) % 3
    ours, theirs = NormSoftmax(dim=5, categories=3).double(), NormalizedSoftmaxLoss(3, 5).double()
    theirs.W.data = ours.proxies.detach().T.clone()
    value, expected = ours(make_step(embedding, category)), theirs(embedding, category)
    torch.testing.assert_close(value, expected)
    mine = torch.autograd.grad(value, [embedding, ours.proxies])
    other = torch.autograd.grad(expected, [embedding, theirs.W])
    torch.testing.assert_close(mine[0], other[0])
    torch.testing.assert_close(mine[1], other[1].T)


def test_a_temperature_of_0_05_is_the_default() -> None:
    assert NormSoftmax(dim=2, categories=2).temperature == 0.05
