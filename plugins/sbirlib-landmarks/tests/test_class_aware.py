"""Training of the class-aware branch by the recipe's weights, and its share in naming sketches."""

import math
from typing import Any

import pytest
import torch

from sbirlib import build
from sbirlib.errors import InputError
from sbirlib.interfaces import Classifier
from sbirlib.losses.fused_classifier import classifier_of
from sbirlib.pipeline import Pipeline
from sbirlib.testing.world import separable

CATEGORIES = 6
SMALL: dict[str, Any] = {
    "encoder.encoder": {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 64, "output_stride": 8},
    "encoder.landmarks": 16,
    "encoder.filters": CATEGORIES,
    "encoder.flip": False,  # a category is the direction of its stripes
    "transform.size": 64,
    "transform.flip": False,
    "transform.rotation": 0.0,
    "sampler.size": 32,
}
PRINTED: dict[str, Any] = {"losses.diversity.reduction": "sum", "phases.0.weights.diversity": 1e-3}


def trained(steps: int, **changes: Any) -> tuple[Pipeline, list[float]]:
    """The recipe after so many steps of its own optimizer, and L_c of each step."""
    pipeline, values = build("landmarks", **SMALL, **{"phases.0.steps": steps}, **changes), list[float]()
    pipeline.fit(
        separable(),
        progress=False,
        tensorboard=False,
        workers=0,
        device="cpu",
        on_step=lambda event: values.append(event.losses["diversity.classes"]),
    )
    return pipeline, values


def test_l_c_leaves_chance_by_the_recipes_weights_and_stays_there_by_those_of_the_paper() -> None:
    chance = math.log(CATEGORIES)
    assert sum(trained(30)[1][-5:]) / 5 < 0.5 * chance
    assert sum(trained(30, **PRINTED)[1][-5:]) / 5 > 0.85 * chance


def test_both_heads_name_a_sketch() -> None:
    pipeline, _ = trained(16)
    dataset = separable()

    def evaluate() -> tuple[float, torch.Tensor]:
        queries, gallery = pipeline.encode(dataset, split="train", progress=False)
        assert queries.logits is not None
        return pipeline.evaluators["classification"].evaluate(queries, gallery)["accuracy"], queries.logits

    accuracy, fused = evaluate()
    heads = {name: loss for name, loss in pipeline.losses.items() if isinstance(loss, Classifier)}
    assert set(heads) == {"cross_entropy", "diversity"}
    heads["diversity"].predicts = False
    accuracy_of_landmarks, landmarks = evaluate()
    heads["diversity"].predicts, heads["cross_entropy"].predicts = True, False
    _, branch = evaluate()
    assert accuracy != accuracy_of_landmarks
    torch.testing.assert_close(fused, (landmarks.log_softmax(1) + branch.log_softmax(1)) / 2)
    heads["diversity"].predicts = False
    with pytest.raises(InputError, match="no loss here is a classifier"):
        evaluate()


@pytest.mark.parametrize("predicts", [True, False])
def test_the_branch_may_be_left_out_at_test(predicts: bool) -> None:
    pipeline = build("landmarks", **SMALL, **{"losses.diversity.predicts": predicts})
    pipeline.make_losses([str(c) for c in range(CATEGORIES)], 0)
    classifier = classifier_of(pipeline.losses, pipeline.recipe.phases)
    assert (classifier is pipeline.losses["cross_entropy"]) != predicts
