from collections.abc import Callable
from typing import Any

import pytest

from sbirlib.testing import all_checks

FEW: dict[str, Any] = {"encoder.channels": 4, "encoder.blocks": 1}
LOSSES = ("losses.patch_adversary", "losses.cycle")
FEW_OF_CYCLE: dict[str, Any] = {  # from N(0, 0.02) so small a generator hardly moves in so few steps
    **{f"{owner}.start": "default" for owner in ("encoder", *LOSSES)},
    **{f"{owner}.channels": 8 for owner in ("encoder", *LOSSES)},
    "encoder.blocks": 0,
    "losses.cycle.blocks": 0,
}
OPTIONS = {
    "loss/cycle": {"channels": 2, "blocks": 1, "pool": 3},
    "loss/patch_adversary": {"channels": 2, "pool": 3},
    "encoder/synthesis": {"channels": 2, "blocks": 1},
    "recipe/acnet-two-stage": FEW_OF_CYCLE,
    "recipe/acnet-two-stage-triplet": FEW_OF_CYCLE,
    **{f"recipe/acnet{row}": FEW for row in ("", "-no-identity", "-no-sketch", "-synthesis-alone")},
}
CHECKS = all_checks("sbirlib-acnet", options=OPTIONS)


@pytest.mark.parametrize(("name", "check"), CHECKS)
def test_conforms(name: str, check: Callable[[], None]) -> None:
    check()
