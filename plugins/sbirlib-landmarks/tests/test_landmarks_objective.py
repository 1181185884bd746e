"""The whole objective of the recipe (Zhang et al. 2019, eq. 8), term by term from the features."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib import build
from sbirlib.interfaces import Features, Step
from sbirlib.testing.world import batch
from sbirlib.training.objective import terms, weighted_sum

CATEGORIES = 4
SMALL: dict[str, Any] = {
    "encoder.encoder": {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 8, "output_stride": 8},
    "encoder.landmarks": 5,
    "encoder.filters": CATEGORIES,
}


def literal(features: Features, weight: Tensor, bias: Tensor, beta: float, reduction: str) -> Tensor:
    """L_cls + beta (L_f + L_r + L_c), a pair of filters at a time; L_r is the mean over images."""
    filters, responses, category = features.extra["filters"], features.images["responses"], features.category
    cls = -F.log_softmax(features.embedding @ weight.T + bias, 1)[range(len(category)), category].mean()
    of_filters, of_responses = torch.zeros(()), torch.zeros(len(responses))
    for i in range(CATEGORIES):
        for j in range(CATEGORIES):
            if i != j:
                of_filters = of_filters + F.cosine_similarity(filters[i], filters[j], dim=0).sum().abs()
                of_responses = of_responses + F.cosine_similarity(responses[:, i].flatten(1), responses[:, j].flatten(1)).abs()
    pairs = CATEGORIES * (CATEGORIES - 1) if reduction == "mean" else 1
    classes = F.cross_entropy(responses.mean((2, 3)), category)
    return cls + beta * (of_filters / pairs + of_responses.mean() / pairs + classes)


@pytest.mark.parametrize(("reduction", "beta"), [("mean", 0.1), ("sum", 1e-3)])
def test_the_total_is_equation_8_in_value_and_gradient(reduction: str, beta: float) -> None:
    printed = {"losses.diversity.reduction": "sum", "phases.0.weights.diversity": 1e-3} if reduction == "sum" else {}
    pipeline = build("landmarks", **SMALL, **printed)
    pipeline.make_losses([str(c) for c in range(CATEGORIES)], 0)
    images = batch()
    step = Step(pipeline.encoder.train()(images), encoder=pipeline.encoder, batch=images)
    phase, head = pipeline.recipe.phases[0], pipeline.losses["cross_entropy"].get_submodule("classifier")
    total = weighted_sum(terms(pipeline.model, phase, step), phase, 0.0)
    expected = literal(step.features, head.get_parameter("weight"), head.get_parameter("bias"), beta, reduction)
    torch.testing.assert_close(total, expected)
    inputs = [pipeline.encoder.get_parameter("filters.weight"), step.features.embedding, step.features.images["responses"]]
    for one, other in zip(*(torch.autograd.grad(value, inputs, retain_graph=True) for value in (total, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
