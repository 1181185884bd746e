"""Recipes: images, batches, warm-up and first stage, held against the paper and the released code."""

from __future__ import annotations

import pytest

from sbirlib import recipe_file, registry

RECIPES = [e.name for e in registry.scan().entries if e.kind == "recipe" and e.distribution == "sbirlib-acnet"]
STAGES = [name for name in RECIPES if "two-stage" in name]
AUGMENTATION = {"flip": True, "crop": 1.0, "rotation": 0.0, "scale": [1.0, 1.0], "shift": 0.0, "paired": False}


def test_there_are_eight() -> None:
    assert len(RECIPES) == 8
    assert len(STAGES) == 2


@pytest.mark.parametrize("name", RECIPES)
def test_images_and_batches_are_as_released(name: str) -> None:
    tables = recipe_file.read(name)
    assert tables["transform"] == {"name": "sbir", "size": 224, **AUGMENTATION}
    assert tables["sampler"] == {"name": "pairs", "of": "category", "pairs": 32}


@pytest.mark.parametrize("name", RECIPES)
def test_the_backbone_is_frozen_for_one_epoch_of_eleven(name: str) -> None:
    phase = recipe_file.read(name)["phases"][-1]
    (rule,) = (rule for rule in phase["parameters"] if rule["of"].endswith(".backbone"))
    assert rule["eval"] is True
    assert phase["steps"] == 11 * rule["frozen"]


@pytest.mark.parametrize("name", STAGES)
def test_the_first_stage_is_cyclegan(name: str) -> None:
    tables = recipe_file.read(name)
    own = {"channels": 64, "start": "normal"}
    assert tables["encoder"].items() >= {**own, "blocks": 9}.items()
    assert tables["losses"]["patch_adversary"] == {**own, "pool": 50}
    assert tables["losses"]["cycle"] == {**own, "blocks": 9, "pool": 50}
    phase = tables["phases"][0]
    assert phase["weights"] == {
        "patch_adversary": 1.0,
        "cycle": {"cycle": 10.0, "sketch_adversary": 1.0, "sketch_identity": 5.0},
        "photo_identity": 5.0,
    }
    assert phase["schedule"] == {"name": "linear", "hold": 0.5}
