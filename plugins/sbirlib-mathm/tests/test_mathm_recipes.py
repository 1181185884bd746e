"""The rows of table 3 and the GAN: recipes that differ in the method and in nothing else."""

import tomllib
from importlib import resources
from typing import Any

import pytest

from sbirlib import part
from sbirlib.data.transforms import of_modality
from sbirlib.interfaces import PHOTO, SKETCH

ROWS = {
    "mathm-ce": [],
    "mathm-baseline": ["cross"],
    "mathm-within": ["within"],
    "mathm-hybrid": ["hybrid"],
    "mathm-cross-within": ["cross", "within"],
    "mathm-cross-hybrid": ["cross", "hybrid"],
    "mathm-unweighted": ["cross", "within", "hybrid"],
    "mathm": ["cross", "within", "hybrid"],
    "mathm-gan": ["cross"],
}


def recipe(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("sbirlib_mathm") / "recipes" / f"{name}.toml").read_text())


def test_every_recipe_is_a_row() -> None:
    assert {file.name.removesuffix(".toml") for file in (resources.files("sbirlib_mathm") / "recipes").iterdir()} == ROWS.keys()
    full = recipe("mathm")
    assert full["sampler"]["categories"] * full["sampler"]["per_modality"] * 2 == 128


@pytest.mark.parametrize("name", ROWS)
def test_the_recipes_differ_in_the_method_and_in_nothing_else(name: str) -> None:
    own, full = recipe(name), recipe("mathm")
    assert own.get("miner", {"kinds": []})["kinds"] == ROWS[name]
    assert own["losses"].get("balanced_triplet", {}).get("weighting", True) is (name in ("mathm", "mathm-ce"))
    assert own["losses"].keys() == own["phases"][0]["weights"].keys()
    for tables in (own, full):
        for key in ("name", "miner", "losses"):
            tables.pop(key, None)
        for key in ("weights", "discriminator"):
            tables["phases"][0].pop(key, None)
    assert own == full


def test_the_augmentation_is_the_released_codes() -> None:
    transform = part("transform", recipe("mathm")["transform"])
    sketch, photo = (
        [of_modality(getattr(transform, name), modality) for name in ("flip", "rotation", "scale", "shift")] for modality in (SKETCH, PHOTO)
    )
    assert sketch == [False, 30.0, [0.7, 1.3], 0.1]
    assert photo == [True, 0.0, [0.7, 1.3], 0.045]
    assert (transform.crop, transform.paired) == (1.0, False)
