"""The front door: wrong structures of every make are refused with one InputError, and valid ones of any spelling are read."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sbirlib import build, load, part
from sbirlib.data.dataset import Dataset
from sbirlib.data.samplers import Balanced
from sbirlib.errors import InputError
from sbirlib.options import Text
from sbirlib.phase import Ramp
from sbirlib.recipe import Recipe
from sbirlib.testing.world import separable

TINY: dict[str, Any] = {"name": "backbone", "backbone": "test_resnet", "pretrained": False}
DEEP: list[Any] = []
for _ in range(3000):
    DEEP = [DEEP]


def recipe(**tables: Any) -> Recipe:
    return Recipe.of({"encoder": TINY, "losses": ["triplet"], "miner": "batch_hard", **tables})


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"losses": ["triplet:foo"]}, "'triplet' adapts no other library"),
        ({"losses": ["pml"]}, "as pml:NAME"),
        ({"losses": ["triplet", "triplet"]}, "two are called 'triplet'"),
        ({"losses": {1: "triplet"}}, "losses: a name = 1: expected a text"),
        ({"losses": 0}, "losses = 0: expected a list"),
        ({"losses": False}, "losses = False: expected a list"),
        ({"losses": np.array([])}, "losses = array"),
        ({"evaluators": ["category", "category"]}, "two are called 'category'"),
        ({"evaluators": ""}, "evaluators = '': expected"),
        ({"phases": 0}, "phases = 0: expected a list"),
        ({"phases": torch.tensor([1.0, 2.0])}, "phases = tensor"),
        ({"phases": [{"steps": 1, "weights": 0}]}, "phases.0.weights = 0: expected a table"),
        ({"phases": [{"steps": 1, "weights": {"triplet": {1: 2}}}]}, "phases.0.weights.triplet = "),
        ({"phases": [{"steps": 1, "weights": {"triplet": np.True_}}]}, "phases.0.weights.triplet = "),
        ({"phases": [{"steps": 1, "optimizer": torch.optim.Adam}]}, "phases.0.optimizer = .*: expected an optimizer by name"),
        ({"phases": [{"steps": 1, "optimizer": None}]}, "phases.0.optimizer = None: expected an optimizer"),
        ({"phases": [{"steps": 1, "discriminator": object()}]}, "phases.0.discriminator = "),
        ({"sampler": Balanced}, r"sampler = .*, or an object: Balanced\(\)"),
        ({"encoder": torch.nn.Linear(2, 2)}, "goes in as encoder={'name': 'backbone', 'backbone': ...}"),
        ({"encoder": TINY | {"timm_options": {"deep": DEEP}}}, "too deep"),
        ({"format": np.array([1.0, 2.0])}, "format = "),
        ({"seed": 10**5000}, "|expected"),
        ({"name": ""}, "name = '': expected a text, at least 1 in all"),
        ({"miner": "batch_hard@"}, "names no distribution after '@'"),
    ],
)
def test_a_wrong_structure_is_refused(tables: dict[str, Any], message: str) -> None:
    if "seed" in tables:
        with pytest.raises(InputError, match="miner = a value of int: expected a miner"):
            recipe(miner=tables["seed"])
        return
    with pytest.raises(InputError, match=message):
        recipe(**tables)


@pytest.mark.parametrize("value", [5, True, b"mathm", ("mathm",), [1]])
def test_a_recipe_is_a_name_or_a_table(value: Any) -> None:
    with pytest.raises(InputError, match="a recipe = .*: expected a name, a TOML file, or a table"):
        build(value)
    with pytest.raises(InputError, match="a recipe = .*: expected a table"):
        Recipe.of(value)


def test_paths_that_lead_nowhere_are_listed_with_the_other_faults() -> None:
    with pytest.raises(InputError) as raised:
        build(
            "mathm",
            **{"phases.1.steps": 3, "encoder.bakbone": "x", "phases.0.steps.": 1, "transform.size": Text("big"), ".".join("a" * 3000): 1},
        )
    message = str(raised.value)
    for text in (
        "5 faults",
        "phases has 1 entries, phases.0",
        "'bakbone'; did you mean 'backbone'",
        "keys joined by dots",
        "transform.size = 'big'",
        "too many keys",
    ):
        assert text in message


def test_faults_found_while_building_come_together_with_their_places() -> None:
    with pytest.raises(InputError, match="2 faults") as raised:
        build("mathm", encoder={"backbone": "resnet81"}, evaluators={"category": {"metrics": ["mAP@al"]}})
    assert "encoder: timm has no model 'resnet81'" in str(raised.value)
    assert "evaluators.category: " in str(raised.value)
    with pytest.raises(InputError, match="encoder 'backbone' cannot be made|encoder: "):
        build(encoder={**TINY, "dim": 10**12}, losses=["triplet"], miner="batch_hard")


def test_texts_are_read_as_tables_lists_and_numbers() -> None:
    whole = build(
        "mathm", encoder={"backbone": "test_resnet", "pretrained": False}, **{"phases.0.weights.balanced_triplet": Text("{from=0,to=1}")}
    )
    assert whole.recipe.phases[0].weights["balanced_triplet"] == Ramp(0, 1)
    for text in ("['triplet']", "triplet"):
        changed = build("mathm", encoder={"backbone": "test_resnet", "pretrained": False}, losses=Text(text))
        assert list(changed.recipe.losses) == ["triplet"]
    assert list(
        build("mathm", evaluators=Text("category"), encoder={"backbone": "test_resnet", "pretrained": False}).recipe.evaluators
    ) == ["category"]
    assert recipe(phases=Text("[]")).phases[0].steps == 1000
    scaled = Recipe.of({"encoder": TINY, "losses": {"cross_entropy": {"scale": np.float32(0.5)}}})
    assert scaled.losses["cross_entropy"].options["scale"] == 0.5
    json.dumps(scaled.tables())
    for text in ("1\nvalue2 = 3", "1 # c", "[" * 3000):
        with pytest.raises(InputError, match="seed = "):
            recipe(seed=Text(text))


@pytest.mark.parametrize("about", ["", "{", "[]", "5", "null", "{}", '{"recipe": 5}'])
def test_a_damaged_description_of_a_model_is_named(about: str, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "m.safetensors", metadata={"sbirlib": about})
    with pytest.raises(InputError, match="the description in .*m.safetensors' is|holds tensors but no recipe"):
        load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("path", [5, None, [], b"x", "x" * 5000])
def test_a_path_that_is_none_is_refused(path: Any) -> None:
    with pytest.raises(InputError):
        load(path)
    with pytest.raises(InputError):
        build("x" * 5000 + ".toml")


def test_an_untrained_pipeline_is_saved_and_loaded(tmp_path: Path) -> None:
    pipeline = build(encoder=TINY, losses=["cross_entropy"])
    pipeline.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert not again.losses
    assert all(torch.equal(value, again.model.tensors()[name]) for name, value in pipeline.model.tensors().items())


def test_a_warm_up_as_long_as_the_phase_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    data: Dataset = separable()
    small = {"encoder": {"backbone": "test_resnet", "pretrained": False}, "transform": {"size": 32}, "sampler": {"categories": 4}}
    with caplog.at_level(logging.WARNING, logger="sbirlib"):
        next(build("mathm", **small, **{"phases.0.steps": 300}).steps(data))
    assert "phases.0: schedule.warmup = 1000 lasts as long as the phase of 300 steps: set both" in caplog.text
    assert "encoder.backbone frozen = 400" in caplog.text
    assert caplog.text.count("lasts as long") == 2, "each once"


def test_an_option_of_a_pml_miner_is_refused() -> None:
    with pytest.raises(InputError, match="miner = 'TripletMarginMiner' does not take"):
        part("loss", "pml:TripletMarginLoss", miner={"name": "TripletMarginMiner", "zz": 1})
