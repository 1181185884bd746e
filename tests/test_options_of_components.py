"""Every option of every component is typed, explained, and has a default that its own annotation allows."""

from pathlib import Path
from typing import Any

import pytest

from sbirlib import registry
from sbirlib.options import REQUIRED, Option, options_of
from sbirlib.registry import Entry

ROOT = Path(__file__).parents[1]
OURS = {"sbirlib", *(p.name for p in (ROOT / "plugins").iterdir() if p.name.startswith("sbirlib-"))}
ENTRIES = [e for e in registry.scan().entries if e.distribution in OURS and e.kind != "recipe" and e.name != "pml"]
every_component = pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e.kind}-{e.name}")


def options(entry: Entry) -> list[Option]:
    return list(options_of(registry.load(entry.kind, entry.name)).values())


def test_components_of_every_kind_are_here() -> None:
    assert {e.kind for e in ENTRIES} == registry.GROUPS.keys() - {"recipe"}


@every_component
def test_every_option_has_a_meaning(entry: Entry) -> None:
    assert [o.name for o in options(entry) if not o.meaning] == []


@every_component
def test_every_option_is_typed(entry: Entry) -> None:
    assert [o.name for o in options(entry) if o.annotation is Any] == []


@every_component
def test_every_default_is_allowed(entry: Entry) -> None:
    for option in options(entry):
        if option.default is not REQUIRED:
            option.read(option.default)
