"""The recipes' readings of the paper: how images are changed, which length is one, and over which dimensions a divergence is a mean."""

from typing import Any

import pytest

from sbirlib import build, list_parts, registry

RECIPES = [entry.name for entry in registry.scan().entries if entry.kind == "recipe" and entry.distribution == "sbirlib-vtd"]


def tables(name: str) -> dict[str, Any]:
    return build(name).recipe.tables()


def test_every_row_of_table_1_and_the_contrastive_baseline_are_there() -> None:
    assert len(RECIPES) == 12
    assert set(RECIPES) <= set(list_parts("recipe"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_sketch_and_its_photo_are_changed_alike(name: str) -> None:
    transform = tables(name)["transform"]
    assert transform["paired"] is True
    assert (transform["crop"], transform["rotation"], transform["scale"], transform["shift"]) == (1.0, 0.0, [1.0, 1.0], 0.0)


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("vtd")])
def test_psi_has_unit_length_and_eta_is_as_it_is_drawn(name: str) -> None:
    recipe = tables(name)
    assert recipe["encoder"]["normalise"] is True
    assert recipe["encoder"]["gate_scale"] is None
    assert recipe["losses"]["gate_prior"]["reduction"] == "mean"
    assert recipe["phases"][-1]["weights"] == {"triplet": 1.0, "gate_prior": 0.004}


@pytest.mark.parametrize("name", ["vtd-vae", "vtd-vae-kmeans", "cvae-regression"])
def test_an_autoencoder_has_the_sum_of_its_bound(name: str) -> None:
    assert tables(name)["losses"]["latent_prior"]["reduction"] == "sum"
