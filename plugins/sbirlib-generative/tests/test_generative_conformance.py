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


@pytest.mark.parametrize(("name", "check"), CHECKS)
def test_conforms(name: str, check: Callable[[], None]) -> None:
    check()
