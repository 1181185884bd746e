"""Recipes as data: defaults, merging, assignment, weights, and mistakes."""

from pathlib import Path
from typing import Any

import pytest

from sbirlib import recipe_file
from sbirlib.errors import InputError
from sbirlib.recipe import Recipe
from sbirlib.recipe_file import assign, merge
from sbirlib.registry import list_parts
from sbirlib.spec import Spec

SMALL: dict[str, Any] = {"encoder": {"name": "backbone", "backbone": "resnet10t"}, "losses": {"cross_entropy": {"bias": True}}}


def test_the_resolved_recipe_rebuilds_itself() -> None:
    for name in ("mathm", "mathm-baseline"):
        resolved = Recipe.of(recipe_file.read(name))
        assert Recipe.of(resolved.tables()) == resolved
        assert Recipe.of(resolved.tables()).digest == resolved.digest
        assert resolved.encoder.options["dim"] == 512


def test_defaults_are_filled_in_so_that_a_later_version_cannot_change_them() -> None:
    resolved = Recipe.of(SMALL)
    assert resolved.losses["cross_entropy"] == Spec("loss", "cross_entropy", {"bias": True, "scale": None})
    assert resolved.phases[0].weights == {"cross_entropy": 1.0}
    assert resolved.phases[0].optimizer.options["lr"] == 1e-4


@pytest.mark.parametrize("name", list_parts("recipe"))
def test_a_recipe_names_its_whole_augmentation(name: str) -> None:
    """So that no default of the library, but the paper, says what training images look like."""
    assert {"size", "flip", "crop", "rotation", "scale", "shift", "paired"} <= recipe_file.read(name)["transform"].keys()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("encodr", "cse", "recipe has no option 'encodr'; did you mean 'encoder'"),
        ("encoder.bakcbone", "x", "encoder 'backbone' has no option 'bakcbone'; did you mean 'backbone'"),
        ("phases", [{"steps": -1}], "phases.0.steps = -1: expected a whole number of at least 0"),
        ("phases", [{"stepz": 3}], "phases.0.stepz: a phase has no option 'stepz'; did you mean 'steps'"),
        ("phases", [{"steps": 3, "weights": {"cross_entrpy": 1}}], "the recipe has no loss 'cross_entrpy'; did you mean 'cross_entropy'"),
        ("phases", [{"steps": 3, "weights": {"cross_entropy": {"from": 1}}}], "both 'from' and 'to'"),
        ("phases", [{"steps": 3, "weights": {"cross_entropy": True}}], "expected a number, or a ramp"),
        ("phases", [{"steps": 3, "optimizer": "adan"}], "unknown optimizer 'adan'; did you mean 'adam'"),
        ("phases", [{"steps": 3, "schedule": {"name": "cosine", "warmpu": 1}}], "no option 'warmpu'; did you mean 'warmup'"),
        ("phases", [{"steps": 3, "parameters": [{"lr": 1}]}], "phases.0.parameters.0.of: a rule needs the option 'of'"),
        ("precision", "float16", "precision = 'float16': expected one of 'float32', 'bfloat16'; did you mean 'bfloat16'"),
        ("format", 2, "format = 2: .*upgrade"),
        ("losses", {"a.b": {"name": "cross_entropy"}}, "holds a dot"),
        ("losses", {}, "at least one loss"),
        ("miner", 3, "miner = 3: expected a miner by name, or a table"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe.of(assign(SMALL, path, value) if path not in ("losses", "format") else {**SMALL, path: value})


def test_a_recipe_file_reads_like_a_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nlosses = ["triplet"]\nencoder = "backbone"\nminer = "batch_hard"\n')
    assert Recipe.of(recipe_file.read(str(file))).miner == Spec("miner", "batch_hard", {"same_source": True})
    file.write_text("name = ")
    with pytest.raises(InputError, match="not valid TOML"):
        recipe_file.read(str(file))
    with pytest.raises(InputError, match="there is no file .*: expected a recipe"):
        recipe_file.read(str(tmp_path / "other.toml"))
    with pytest.raises(InputError, match="unknown recipe 'mathmm'; did you mean 'mathm'"):
        recipe_file.read("mathmm")


def test_merging() -> None:
    assert merge({"name": "cse", "dim": 512}, {"name": "backbone"}) == {"name": "backbone"}
    assert merge({"name": "cse", "dim": 512}, "cse") == {"name": "cse", "dim": 512}
    assert merge([{"a": 1}, {"b": 2}], [{"a": 3}, {}]) == [{"a": 3}, {"b": 2}]
    assert merge([1, 2], [3]) == [3]


def test_assigning_does_not_touch_the_original() -> None:
    tables = {"phases": [{"steps": 1, "optimizer": "adam"}]}
    changed = assign(tables, "phases.0.optimizer.lr", 0.1)
    assert changed == {"phases": [{"steps": 1, "optimizer": {"name": "adam", "lr": 0.1}}]}
    assert tables == {"phases": [{"steps": 1, "optimizer": "adam"}]}
    with pytest.raises(InputError, match="phases has 1 entries"):
        assign(tables, "phases.1.steps", 3)


def test_weights_by_term_and_ramps() -> None:
    phase = Recipe.of({**SMALL, "phases": [{"steps": 10, "weights": {"cross_entropy": {"hard": {"from": 1, "to": 3}, "soft": 2}}}]}).phases[
        0
    ]
    assert phase.weight("cross_entropy", "hard", 0.5) == 2.0
    assert phase.weight("cross_entropy", "soft", 0.5) == 2.0
    with pytest.raises(InputError, match="names no term 'hrad'; did you mean 'hard'"):
        phase.weight("cross_entropy", "hrad", 0)
