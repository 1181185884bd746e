"""Options: every value of every option of every component is held to its annotation."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from annotated_types import Ge, Gt, Interval, Len
from hypothesis import given
from hypothesis import strategies as st

from sbirlib import build, part, registry
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoder, Loss
from sbirlib.options import REQUIRED, Option, Text, expected, meanings_of, options_of, read_options
from sbirlib.phase import Phase, Rule
from sbirlib.recipe import Recipe
from sbirlib.schema import component_schema, recipe_schema
from sbirlib.spec import SUPPLIED, Spec, component_kind
from sbirlib.testing.component import wrong_values

COMPONENTS = [
    (entry.kind, entry.name)
    for entry in registry.scan().entries
    if entry.distribution.startswith("sbirlib") and entry.kind not in ("recipe",) and entry.name != "pml"
]
WRONG: dict[str, Any] = {"margin": "big", "lr": -1, "frozen": "yes", "seed": "a"}


def options(kind: str, name: str) -> list[Option]:
    return [option for option in options_of(registry.load(kind, name)).values() if not component_kind(option)]


def table(kind: str, name: str, values: dict[str, Any]) -> dict[str, Any]:
    """A component's table with its required options, and these values."""
    entries = options_of(registry.load(kind, name))
    examples = {
        "encoder": {"name": "backbone", "backbone": "test_resnet", "pretrained": False},
        "teacher": "backbone",
        "transform": "sbir",
        "descriptor": "descriptor",
        "uri": "index.db",
    }
    required = {o.name: examples.get(o.name, 4) for o in entries.values() if o.default is REQUIRED and o.name not in SUPPLIED}
    return {"name": name, **required, **values}


def accepts(kind: str, name: str, option: str, value: Any) -> bool:
    faults: list[str] = []
    Spec.read(kind, table(kind, name, {option: value}), "here", faults, supplied=SUPPLIED)
    assert all(fault.startswith(f"here.{option}") for fault in faults)
    return not faults


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_every_default_is_accepted_and_stored_as_json(kind: str, name: str) -> None:
    for option in options(kind, name):
        if option.default is not REQUIRED:
            stored = json.loads(json.dumps(option.default))
            assert accepts(kind, name, option.name, stored), (option.name, stored)


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_a_wrong_type_and_a_value_out_of_range_are_refused_with_their_path(kind: str, name: str) -> None:
    for option in options(kind, name):
        for value in wrong_values(option.schema()):
            assert not accepts(kind, name, option.name, value), (option.name, value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(-1e3, 1e3).filter(lambda x: not x.is_integer()) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@given(st.data())
def test_what_the_json_schema_allows_is_what_is_accepted(data: Any) -> None:
    kind, name = data.draw(st.sampled_from([c for c in COMPONENTS if options(*c)]))
    option = data.draw(st.sampled_from(options(kind, name)))
    schema = option.schema()
    value = data.draw(JSON | st.sampled_from([v for v in wrong_values(schema)[4:] if not isinstance(v, float)] or [None]))
    allowed = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert accepts(kind, name, option.name, value) == allowed, (kind, name, option.name, value, schema)


@pytest.mark.parametrize("constructor", [Recipe, Phase, Rule])
def test_every_key_of_a_recipe_is_typed_and_explained(constructor: Any) -> None:
    for option in options_of(constructor).values():
        assert option.meaning, option.name


RECIPE: dict[str, Any] = {"encoder": {"name": "backbone", "backbone": "test_resnet", "pretrained": False}, "losses": {"cross_entropy": {}}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", 3), ("seed", "a"), ("seed", -1), ("seed", 1.5), ("seed", True), ("precision", "float16"), ("precision", 1),
        ("encoder", 3), ("encoder", []), ("transform", 1), ("miner", 4), ("losses", 3), ("evaluators", 3), ("phases", 3),
        ("phases", "all"), ("phases.0", 3), ("phases.0.steps", "many"), ("phases.0.steps", -1), ("phases.0.steps", 1.5),
        ("phases.0.steps", True), ("phases.0.steps", None), ("phases.0.clip", 0), ("phases.0.clip", "no"), ("phases.0.encoder", 3),
        ("phases.0.weights", 3), ("phases.0.weights.cross_entropy", "big"), ("phases.0.weights.cross_entropy", {"from": 1}),
        ("phases.0.weights.cross_entropy", {"from": 1, "to": "x"}), ("phases.0.weights.cross_entropy", math.nan),
        ("phases.0.optimizer.lr", -1), ("phases.0.optimizer.lr", "fast"), ("phases.0.optimizer.betas", [0.9]),
        ("phases.0.schedule.warmup", -1), ("phases.0.sampler.categories", 0), ("phases.0.discriminator.lr", -1),
        ("phases.0.parameters", 3), ("phases.0.parameters", [3]), ("phases.0.parameters.0.of", 3), ("phases.0.parameters.0.lr", -1),
        ("phases.0.parameters.0.frozen", "yes"), ("phases.0.parameters.0.frozen", -1), ("phases.0.parameters.0.eval", "no"),
        ("phases.0.parameters.0.betas", [1, 2]), ("phases.0.parameters.0.weight_decay", -0.1),
    ],
)  # fmt: skip
def test_a_wrong_value_of_a_recipes_key_is_refused_with_its_path(path: str, value: Any) -> None:
    phase = {"steps": 1, "parameters": [{"of": "encoder"}], "sampler": {"name": "balanced"}, "discriminator": {"name": "adam"}}
    with pytest.raises(InputError) as raised:
        build(RECIPE | {"phases": [{**phase, "weights": {"cross_entropy": 1.0}}]}, **{path: value})
    assert path in str(raised.value)


def test_all_faults_of_a_recipe_come_at_once() -> None:
    with pytest.raises(InputError) as raised:
        build(
            "mathm",
            encoder={"backbone": "resnet10t"},
            **{
                "losses.balanced_triplet.weighting": Text("maybe"),
                "losses.balanced_triplet.margn": 0.2,
                "phases.0.optimizer.lr": -1,
                "precison": "float32",
                "phases.0.parameters.0.frozen": "yes",
            },
        )
    lines = str(raised.value).splitlines()
    assert lines[0] == "5 faults:"
    for text in (
        "losses.balanced_triplet.weighting = 'maybe': expected true or false",
        "losses.balanced_triplet.margn: loss 'balanced_triplet' has no option 'margn'; did you mean 'margin'?",
        "phases.0.optimizer.lr = -1: expected a number of at least 0",
        "precison: recipe has no option 'precison'; did you mean 'precision'?",
        "phases.0.parameters.0.frozen = 'yes': expected true or false, or a whole number of at least 0, or none",
    ):
        assert any(text in line for line in lines), text


@pytest.mark.parametrize(
    "make", [lambda v: build("mathm", **{"losses.balanced_triplet.margin": v}), lambda v: part("loss", "balanced_triplet", margin=v)]
)
def test_build_and_part_refuse_alike(make: Any) -> None:
    for value in ("big", None, [1], True, -0.5, math.nan):
        with pytest.raises(InputError, match=r"balanced_triplet\.margin = .*: expected a number of at least 0"):
            make(value)


class Own(Loss):
    """A stranger's loss.

    Args:
        sharpness: slope of the
            sigmoid
    """

    def __init__(
        self, *, sharpness: Annotated[float, Gt(0)] = 1.0, kind: Literal["soft", "hard"] = "soft", inner: Encoder | None = None
    ) -> None:
        super().__init__()


def test_a_component_made_by_hand_is_held_too() -> None:
    with pytest.raises(InputError, match="Own: sharpness = 0: expected a number above 0"):
        Own(sharpness=0)
    with pytest.raises(InputError, match="2 faults"):
        Own(sharpness=0, kind="hrad")  # type: ignore[arg-type]
    assert meanings_of(Own) == {"sharpness": "slope of the sigmoid"}


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (bool, "False", False), (bool, "no", False), (bool, "TRUE", True), (bool | int | None, "0", 0), (bool | int | None, "true", True),
        (float | None, "None", None), (float | None, "null", None), (float, "1e-3", 1e-3), (float, ".001", 0.001), (float, "3", 3),
        (int, "12", 12), (str, "no", "no"), (str, "3", "3"), (str | None, "none", None), (Literal["none", "sobel"], "none", "none"),
        (Sequence[int], "[1, 2]", [1, 2]), (Sequence[str], '["a"]', ["a"]), (Any, "x = 1", "x = 1"), (str, '"quoted"', "quoted"),
    ],
)  # fmt: skip
def test_a_text_is_read_as_the_type_of_its_option_says(annotation: Any, text: str, value: Any) -> None:
    reading = Option("o", annotation, None, "").read(Text(text))
    assert reading == value
    assert type(reading) is type(value)


@pytest.mark.parametrize(
    ("annotation", "text"), [(bool, "maybe"), (bool, "1"), (int, "1.5"), (float, "fast"), (float, "nan"), (Sequence[int], "1, 2")]
)
def test_a_text_that_cannot_be_read_is_refused(annotation: Any, text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Option("o", annotation, None, "").read(Text(text))


def test_annotations_in_words() -> None:
    assert expected(Annotated[int, Ge(1)] | None) == "a whole number of at least 1, or none"
    assert expected(Annotated[float, Interval(gt=0, le=1)]) == "a number above 0 and of at most 1"
    assert expected(Annotated[Sequence[float], Len(2, 2)]) == "a list, each item a number, 2 in all"
    assert expected(Literal["a", "b"]) == "one of 'a', 'b'"


def test_a_missing_option_is_named() -> None:
    faults: list[str] = []
    read_options(Rule, {}, "rule", faults)
    assert faults == ["rule.of: Rule needs the option 'of', expected a text"]


def test_every_recipe_fits_the_schema_of_recipes() -> None:
    validator = jsonschema.Draft202012Validator(recipe_schema())
    for name in registry.list_parts("recipe"):
        validator.validate(Recipe.of({**recipe_of(name)}).tables())
        validator.validate(recipe_of(name))
    broken = recipe_of("mathm")
    broken["losses"]["balanced_triplet"]["margin"] = "big"
    assert not validator.is_valid(broken)
    assert not validator.is_valid({**recipe_of("mathm"), "encodr": "cse"})


def recipe_of(name: str) -> dict[str, Any]:
    from sbirlib.recipe_file import read

    return json.loads(json.dumps(read(name)))  # type: ignore[no-any-return]


def test_a_components_schema_has_its_ranges_and_meanings() -> None:
    schema = component_schema("loss", "balanced_triplet")
    assert schema["properties"]["margin"] | {"minimum": 0, "type": "number", "default": 0.2} == schema["properties"]["margin"]
    assert schema["additionalProperties"] is False
