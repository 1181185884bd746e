from collections.abc import Callable
from typing import Any

import pytest

from sbirlib.testing import all_checks

SMALL: dict[str, Any] = {"losses.sketch_decoder.size": 16, "losses.sketch_decoder.width": 16}
OPTIONS: dict[str, dict[str, Any]] = {
    "loss/sketch_decoder": {"size": 16, "width": 8},
    **{f"recipe/generative{row}": SMALL for row in ("", "-as-printed", "-heterogeneous", "-hybrid")},
}
EXPECTED = {
    "loss/sketch_decoder/is_the_same_in_two_processes": "each process's decoder has its own batch norm statistics",
}
CHECKS = all_checks("sbirlib-generative", options=OPTIONS, expected_failures=EXPECTED)


def trains_an_ablation(name: str) -> bool:
    """Whether a check trains a recipe other than those that stand for the method."""
    part, _, check = name.rpartition("/")
    return part.startswith("recipe/") and part not in ("recipe/generative",) and check != "is_complete_as_it_stands"


@pytest.mark.parametrize(("name", "check"), [check for check in CHECKS if not trains_an_ablation(check[0])])
def test_conforms(name: str, check: Callable[[], None]) -> None:
    check()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "check"), [check for check in CHECKS if trains_an_ablation(check[0])])
def test_ablations_conform(name: str, check: Callable[[], None]) -> None:
    check()
