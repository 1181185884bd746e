"""Compositions: components of different methods in one recipe, built and trained."""

from typing import Any

import pytest
import torch

from sbirlib import build, part
from sbirlib.errors import InputError
from sbirlib.interfaces import Features
from sbirlib.testing.world import batch, separable

TINY: dict[str, Any] = {"backbone": "test_resnet", "pretrained": False, "dim": 16}
CSE = {"name": "cse", **TINY}
DECODER = {"size": 16, "width": 16}

COMPOSED: dict[str, dict[str, Any]] = {
    "sketch_decoder on mathm": {
        "name": "mathm",
        "encoder": CSE,
        "losses": {"cross_entropy": {}, "balanced_triplet": {}, "sketch_decoder": DECODER},
        "weights": {"cross_entropy": 1.0, "balanced_triplet": 1.0, "sketch_decoder": 1.0},
    },
    "synthesis around cse, modality_hard under acnet": {
        "name": "acnet",
        "encoder": {"name": "synthesis", "channels": 4, "blocks": 1, "encoder": CSE},
        "miner": {"name": "modality_hard", "same_source": False},
        "losses": {"norm_softmax": {}, "patch_adversary": {"channels": 4}, "photo_identity": {}, "balanced_triplet": {}},
        "weights": {"norm_softmax": 10.0, "patch_adversary": 1.0, "photo_identity": 0.1, "balanced_triplet": 1.0},
    },
    "sketch_decoder behind synthesis in two branches": {
        "name": "acnet",
        "encoder": {
            "name": "synthesis",
            "channels": 4,
            "blocks": 1,
            "encoder": {"name": "branches", "sharing": "hybrid", "encoder": {"name": "backbone", **TINY}},
        },
        "losses": {"norm_softmax": {}, "patch_adversary": {"channels": 4}, "photo_identity": {}, "sketch_decoder": DECODER},
        "weights": {"norm_softmax": 10.0, "patch_adversary": 1.0, "photo_identity": 0.1, "sketch_decoder": 1.0},
    },
}


@pytest.mark.parametrize("composition", COMPOSED)
def test_a_composition_trains(composition: str) -> None:
    options = dict(COMPOSED[composition])
    name, weights = options.pop("name"), options.pop("weights")
    pipeline = build(
        name,
        **options,
        transform={"size": 32},
        sampler={"name": "balanced", "categories": 4, "per_modality": 2},
        **{"phases.0.steps": 2, "phases.0.weights": weights, "phases.0.parameters": [], "phases.0.schedule": {"name": "constant"}},
    )
    before = {name: value.clone() for name, value in pipeline.encoder.named_parameters()}
    data = separable()
    pipeline.fit(data, device="cpu", progress=False, tensorboard=False)
    changed = [name for name, value in pipeline.encoder.named_parameters() if not before[name].equal(value)]
    assert len(changed) > len(before) / 2
    assert 0 < pipeline.evaluate(data, device="cpu", progress=False)["mAP@all"] <= 1


@pytest.mark.parametrize("error", [IndexError, RuntimeError, ValueError])
def test_an_exception_of_a_miner_of_pml_becomes_an_error_in_words(error: type[Exception]) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error("what went wrong")

    miner = part("miner", "pml:BatchHardMiner")
    miner.miner.forward = fail
    features = Features.of(images := batch(), torch.randn(len(images), 4))
    with pytest.raises(
        InputError, match=f"pml:BatchHardMiner fails with {error.__name__}: what went wrong. It read the distances of 16 rows"
    ):
        miner(features, torch.rand(16, 16))
