import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sbirlib.errors import InputError
from sbirlib.interfaces import Loss, Step
from sbirlib.losses.cross_entropy import CrossEntropy
from sbirlib.losses.norm_softmax import NormSoftmax

MakeStep = Callable[..., Step]
CLASSIFIERS = (CrossEntropy, NormSoftmax)


def literal_cross_entropy(logits: Tensor, category: Tensor) -> Tensor:
    rows = [-logits[i, y] + math.log(sum(math.exp(v) for v in logits[i].tolist())) for i, y in enumerate(category.tolist())]
    return torch.stack(rows).mean()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scale", [None, 4.0])
def test_cross_entropy_equals_equation_2(make_step: MakeStep, bias: bool, scale: float | None) -> None:
    torch.manual_seed(0)
    embedding, category = torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])
    loss = CrossEntropy(dim=5, categories=3, bias=bias, scale=scale).double()
    read = embedding if scale is None else scale * embedding / embedding.pow(2).sum(1, keepdim=True).sqrt()
    logits = torch.tensor([[float(w @ f) for w in loss.classifier.weight.detach()] for f in read], dtype=torch.float64)
    if bias:
        logits = logits + loss.classifier.bias.detach()
    torch.testing.assert_close(loss(make_step(embedding, category)), literal_cross_entropy(logits, category))
    torch.testing.assert_close(loss.logits(make_step(embedding, category).features), logits)


def test_scale_one_reads_the_normalised_embedding(make_step: MakeStep) -> None:
    loss = CrossEntropy(dim=4, categories=2, scale=1.0)
    embedding = torch.randn(3, 4)
    short, long = (loss.logits(make_step(e, torch.zeros(3, dtype=torch.int64)).features) for e in (embedding, 7 * embedding))
    torch.testing.assert_close(short, long)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_gradients_agree_with_finite_differences(make_step: MakeStep, kind: Callable[..., Loss]) -> None:
    torch.manual_seed(0)
    loss = kind(dim=3, categories=4).double()
    category = torch.tensor([0, 3, 1])
    embedding = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(make_step(x, category)), (embedding,))


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_computes_in_float32_at_least_and_leaves_parameters_alone(
    make_step: MakeStep, kind: Callable[..., Loss], dtype: torch.dtype
) -> None:
    loss = kind(dim=4, categories=3)
    embedding = torch.randn(5, 4).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(make_step(embedding, torch.tensor([0, 1, 2, 0, 1])))
        plain = loss(make_step(embedding.double(), torch.tensor([0, 1, 2, 0, 1])))
    value.backward()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(value.double(), plain, atol=1e-6, rtol=1e-5)
    for parameter in loss.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_is_named(make_step: MakeStep, kind: Callable[..., Loss], label: int) -> None:
    step = make_step(torch.randn(2, 4), torch.tensor([0, label]))
    with pytest.raises(InputError, match="classifier of 3, which takes 0 to 2"):
        kind(dim=4, categories=3)(step)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_no_rows_give_zero_with_a_gradient(make_step: MakeStep, kind: Callable[..., Loss]) -> None:
    loss = kind(dim=4, categories=3)
    value = loss(make_step(torch.empty(0, 4, requires_grad=True), torch.empty(0, dtype=torch.int64)))
    value.backward()
    assert value == 0
    assert all(p.grad is not None and not p.grad.any() for p in loss.parameters())


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_initial_values_come_from_the_global_generator(kind: Callable[..., Loss]) -> None:
    def parameters() -> list[Tensor]:
        torch.manual_seed(3)
        return [p.detach() for p in kind(dim=4, categories=3).parameters()]

    assert all(torch.equal(a, b) for a, b in zip(parameters(), parameters(), strict=True))


def test_one_category_costs_nothing(make_step: MakeStep) -> None:
    step = make_step(torch.randn(3, 4), torch.zeros(3, dtype=torch.int64))
    assert CrossEntropy(dim=4, categories=1)(step) == 0


def test_bias_is_off_by_default() -> None:
    classifier = CrossEntropy(dim=4, categories=3).classifier
    assert isinstance(classifier, nn.Linear)
    assert classifier.bias is None


def test_nan_is_not_hidden(make_step: MakeStep) -> None:
    step = make_step(torch.full((2, 4), float("nan")), torch.tensor([0, 1]))
    assert CrossEntropy(dim=4, categories=2)(step).isnan()
