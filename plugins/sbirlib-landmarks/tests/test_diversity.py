import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Encoder, Features, Step
from sbirlib_landmarks.diversity import Diversity, of_filters, of_responses


def step_of(categories: int = 4, images: int = 6) -> Step:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % categories
    batch = Batch(torch.rand(images, 3, 8, 8, generator=generator), torch.zeros_like(labels), labels, labels)
    features = Features.of(batch, torch.rand(images, 5, generator=generator))
    responses = torch.randn(images, categories, 3, 3, generator=generator, requires_grad=True)
    features = replace(features, rows={"class_logits": responses.mean((2, 3))})
    filters = torch.randn(categories, 7, 3, 3, generator=generator, requires_grad=True)
    return Step(replace(features, images={"responses": responses}, extra={"filters": filters}), encoder=Encoder(), batch=batch)


def slow_filters(filters: Tensor) -> float:
    """Eq. 6, a position at a time."""
    total = 0.0
    for i in range(len(filters)):
        for j in range(len(filters)):
            if i != j:
                inner = 0.0
                for y in range(filters.shape[2]):
                    for x in range(filters.shape[3]):
                        a, b = filters[i, :, y, x], filters[j, :, y, x]
                        inner += float(a @ b) / (float(a.norm()) * float(b.norm()))
                total += abs(inner)
    return total


def slow_responses(maps: Tensor) -> float:
    """Eq. 7 for one image, maps [K, H, W]."""
    total = 0.0
    for i in range(len(maps)):
        for j in range(len(maps)):
            if i != j:
                total += abs(float((maps[i] * maps[j]).sum()) / (float(maps[i].norm()) * float(maps[j].norm())))
    return total


def test_the_terms_equal_the_equations() -> None:
    step = step_of()
    terms = Diversity(categories=4, reduction="sum")(step)
    responses, filters = step.features.images["responses"].detach(), step.features.extra["filters"].detach()
    assert math.isclose(float(terms["filters"]), slow_filters(filters), rel_tol=1e-5)
    assert math.isclose(float(terms["responses"]), sum(slow_responses(maps) for maps in responses) / 6, rel_tol=1e-5)
    right = [maps.mean((1, 2)).softmax(0)[c] for maps, c in zip(responses, step.batch.category.tolist(), strict=True)]
    assert math.isclose(float(terms["classes"]), -sum(math.log(p) for p in right) / 6, rel_tol=1e-5)
    mean = Diversity(categories=4)(step)
    for name in ("filters", "responses"):
        assert math.isclose(float(mean[name]), float(terms[name]) / 12, rel_tol=1e-5)
    assert torch.equal(mean["classes"], terms["classes"])


def test_gradients_agree_with_differences() -> None:
    generator = torch.Generator().manual_seed(2)
    filters = torch.randn(3, 4, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    maps = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(of_filters, (filters,))
    assert torch.autograd.gradcheck(of_responses, (maps,))


def test_orthogonal_filters_and_maps_cost_nothing_and_equal_ones_all() -> None:
    apart = torch.eye(4).reshape(4, 4, 1, 1).expand(-1, -1, 3, 3)
    assert float(of_filters(apart)) == 0
    assert math.isclose(float(of_filters(torch.ones(4, 2, 3, 3))), 12 * 9, rel_tol=1e-5)
    maps = torch.eye(4).reshape(1, 4, 2, 2)
    assert of_responses(maps).tolist() == [0.0]
    assert math.isclose(float(of_responses(torch.ones(1, 4, 2, 2))[0]), 12, rel_tol=1e-5)


def test_silent_responses_and_a_single_filter_are_no_fault() -> None:
    assert of_responses(torch.zeros(2, 3, 4, 4)).tolist() == [0.0, 0.0]
    assert float(of_filters(torch.randn(1, 2, 3, 3))) == 0


def test_orthogonality_can_be_trained() -> None:
    filters = torch.randn(6, 8, 3, 3, generator=torch.Generator().manual_seed(3), requires_grad=True)
    before = float(of_filters(filters))
    optimizer = torch.optim.Adam([filters], lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        of_filters(filters).backward()
        optimizer.step()
    assert float(of_filters(filters)) < before / 5


def test_the_gradient_of_l_c_reaches_the_responses() -> None:
    step = step_of()
    responses = step.features.images["responses"]
    (gradient,) = torch.autograd.grad(Diversity(categories=4)(step)["classes"], responses)
    error = responses.mean((2, 3)).softmax(1) - F.one_hot(step.batch.category, 4)
    torch.testing.assert_close(gradient, (error / 6 / 9)[:, :, None, None].expand_as(responses).detach())


def test_categories_are_those_of_the_first_filters() -> None:
    step = step_of()
    loss = Diversity(categories=3)
    assert torch.equal(loss.logits(step.features), step.features.images["responses"].mean((2, 3))[:, :3])
    step.features.category[:] = 2
    expected = -step.features.images["responses"].mean((2, 3))[:, :3].log_softmax(1)[:, 2].mean()
    torch.testing.assert_close(loss(step)["classes"], expected)


def test_more_categories_than_filters_are_refused() -> None:
    with pytest.raises(InputError, match="has 4 filters, one for each category, and there are 5 categories: set its option filters to 5"):
        Diversity(categories=5)(step_of())
    with pytest.raises(InputError, match="reduction = 'max': expected one of 'mean', 'sum'"):
        Diversity(categories=4, reduction="max")  # type: ignore[arg-type]
