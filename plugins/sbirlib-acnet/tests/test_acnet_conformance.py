from collections.abc import Callable
from typing import Any

import pytest

from sbirlib.testing import all_checks

FEW: dict[str, Any] = {"encoder.channels": 4, "encoder.blocks": 1}
FEW_OF_CYCLE = {**FEW, "losses.patch_adversary.channels": 4, "losses.cycle.channels": 4, "losses.cycle.blocks": 1}
OPTIONS = {
    "loss/cycle": {"channels": 2, "blocks": 1},
    "loss/patch_adversary": {"channels": 2},
    "encoder/synthesis": {"channels": 2, "blocks": 1},
    "recipe/acnet-two-stage": FEW_OF_CYCLE,
    "recipe/acnet-two-stage-triplet": FEW_OF_CYCLE,
    **{f"recipe/acnet{row}": FEW for row in ("", "-no-identity", "-no-sketch", "-synthesis-alone")},
}
CHECKS = all_checks("sbirlib-acnet", options=OPTIONS)


@pytest.mark.parametrize(("name", "check"), CHECKS)
def test_conforms(name: str, check: Callable[[], None]) -> None:
    check()
