from collections.abc import Callable

import pytest
import torch

from sbirlib import build, synthetic
from sbirlib.data.dataset import Dataset
from sbirlib.ensemble import Ensemble, mixture_weights
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoder
from sbirlib.pipeline import Pipeline


def pipeline(encoder: Encoder, dataset: Dataset, steps: int) -> Pipeline:
    model = build(
        encoder=encoder,
        losses=["cross_entropy"],
        sampler={"name": "shuffled", "size": 16},
        transform={"size": 32},
        evaluators=["classification"],
        phases=[{"steps": steps, "optimizer": {"name": "adam", "lr": 1e-2}}],
    )
    model.fit(dataset, progress=False, tensorboard=False)
    return model


def test_the_weights_are_the_likeliest_on_a_grid() -> None:
    torch.manual_seed(0)
    probabilities, category = torch.randn(2, 30, 4, dtype=torch.float64).softmax(2), torch.randint(4, (30,))
    right = probabilities[:, torch.arange(30), category]
    grid = torch.linspace(0, 1, 2001, dtype=torch.float64)
    best = grid[(grid[:, None] * right[0] + (1 - grid[:, None]) * right[1]).log().mean(1).argmax()]
    weights = mixture_weights(probabilities, category)
    assert float(weights[0]) == pytest.approx(float(best), abs=5e-3)
    assert float(weights.sum()) == pytest.approx(1)


def test_who_is_always_surely_wrong_gets_no_weight() -> None:
    category = torch.tensor([0, 1, 0])
    good, bad = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1]]), torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert mixture_weights(torch.stack([good, bad]).double(), category).tolist() == pytest.approx([1, 0], abs=1e-6)
    assert mixture_weights(torch.stack([good, good]).double(), category).tolist() == [0.5, 0.5]


def test_an_ensemble_of_one_is_that_one_and_of_two_is_weighed_by_what_they_know(dataset: Dataset, fresh: Callable[[], Encoder]) -> None:
    taught, untaught = pipeline(fresh(), dataset, 60), pipeline(fresh(), dataset, 1)
    alone = Ensemble.fit([taught], dataset, split="train")
    assert alone.weights.tolist() == [1]
    assert alone.evaluate(dataset, split="train") == pytest.approx(taught.evaluate(dataset, split="train", progress=False))
    both = Ensemble.fit([untaught, taught], dataset, split="train")
    assert both.weights[1] > both.weights[0]


def test_weights_come_from_the_validation_part_and_the_test_is_measured(fresh: Callable[[], Encoder]) -> None:
    data = synthetic(categories=5, unseen=1, instances=10, size=32, disjoint="instance")
    taught, untaught = pipeline(fresh(), data, 30), pipeline(fresh(), data, 1)
    both = [untaught, taught]
    fitted = Ensemble.fit(both, data)
    assert torch.equal(fitted.weights, Ensemble.fit(both, data.select("validation"), split="train").weights)
    assert fitted.evaluate(data) == fitted.evaluate(data.select("test"), split="train")


def test_what_is_no_ensemble_is_refused(dataset: Dataset, fresh: Callable[[], Encoder]) -> None:
    with pytest.raises(InputError, match="needs pipelines and a weight for each, got 0 and 0"):
        Ensemble.fit([], dataset)
    model = pipeline(fresh(), dataset, 1)
    with pytest.raises(InputError, match="different categories"):
        Ensemble([model, build(encoder=fresh(), losses=["cross_entropy"])], torch.ones(2))
    silent = build(encoder=fresh(), losses=["triplet"], miner="batch_hard")
    with pytest.raises(InputError, match="an ensemble is of classifiers"):
        Ensemble([silent], torch.ones(1)).evaluate(dataset, split="train")
