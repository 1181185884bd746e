"""Pins: results that a change of structure must leave as they are, recorded by `record.py` before the change."""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from sbirlib.recipe import Recipe
from sbirlib.recipe_file import read

HERE = Path(__file__).parent
PINS: dict[str, Any] = json.loads((HERE / "pins.json").read_text(encoding="utf-8"))


def _recorder() -> Any:
    spec = importlib.util.spec_from_file_location("sbirlib_pins_record", HERE / "record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


record = _recorder()


def _check_weights(pipeline: Any, run: str) -> None:
    """Bit for bit, where the pin was recorded on this kind of processor."""
    own = PINS["weights"].get(record.machine())
    if own is None:
        warnings.warn(
            f"no weights are pinned for {record.machine()}: only losses were compared (python tests/pins/record.py)", stacklevel=2
        )
        return
    assert record.weights_digest(pipeline) == own[run]


def _check_losses(terms: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert len(terms) == len(expected)
    for one, other in zip(terms, expected, strict=True):
        assert one == pytest.approx(other, rel=2e-2, abs=2e-3)


@pytest.mark.parametrize("method", record.METHODS)
def test_a_run_ends_with_the_pinned_weights(method: str, tmp_path: Path) -> None:
    pipeline, terms = record.trained(record.small(method), tmp_path)
    _check_losses(terms, PINS["losses"][method])
    _check_weights(pipeline, method)


def test_a_checkpoint_of_an_earlier_version_resumes_to_the_same_weights(tmp_path: Path) -> None:
    pipeline, terms = record.resumed(tmp_path)
    _check_losses(terms, PINS["losses"]["mathm"][3:])
    _check_weights(pipeline, "resumed")


def test_a_model_of_an_earlier_version_has_the_pinned_metrics() -> None:
    assert record.metrics(HERE / "model.safetensors") == pytest.approx(PINS["metrics"], abs=1e-6)


@pytest.mark.parametrize("name", PINS["recipes"])
def test_a_recipe_has_the_pinned_digest(name: str) -> None:
    assert Recipe.of(read(name)).digest == PINS["recipes"][name]
