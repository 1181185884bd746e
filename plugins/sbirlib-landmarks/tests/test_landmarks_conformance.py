from collections.abc import Callable
from typing import Any

import pytest

from sbirlib.testing import all_checks

STRIDE: dict[str, Any] = {"encoder.encoder.output_stride": 8}  # 4 x 4 cells of 32 pixels
BRANCH: dict[str, Any] = {"encoder.filters": 6}
POINTS: dict[str, Any] = {"encoder.landmarks": 8}
INNER = {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 16, "output_stride": 8}
OPTIONS: dict[str, dict[str, Any]] = {
    "encoder/landmark": {"landmarks": 4, "filters": 4, "encoder": INNER},
    **{f"recipe/landmarks{row}": {**STRIDE, **POINTS, **BRANCH} for row in ("", "-retrieval", "-fixed", "-class-aware")},
    **{f"recipe/landmarks{row}": {**STRIDE, **POINTS} for row in ("-alone", "-offset")},
}

CHECKS = all_checks("sbirlib-landmarks", options=OPTIONS)


@pytest.mark.parametrize(("name", "check"), CHECKS)
def test_conforms(name: str, check: Callable[[], None]) -> None:
    check()
