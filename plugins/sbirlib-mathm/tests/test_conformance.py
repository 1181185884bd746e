from collections.abc import Callable
from typing import Any

import pytest

from sbirlib.testing import all_checks, check_part

CHECKS = all_checks("sbirlib-mathm")


@pytest.mark.parametrize(("name", "check"), CHECKS)
def test_conforms(name: str, check: Callable[[], None]) -> None:
    check()


BACKBONES: dict[str, dict[str, Any]] = {
    "seresnet": {"backbone": "test_resnet", "timm_options": {"block_args": {"attn_layer": "se"}, "zero_init_last": False}},
    "mobilenetv3": {"backbone": "mobilenetv3_small_050"},
    "vit": {"backbone": "test_vit"},
}


@pytest.mark.parametrize("condition", ["add", "concatenate"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_cse_conforms_around_any_backbone(backbone: str, condition: str) -> None:
    check_part("encoder", "cse", options={**BACKBONES[backbone], "condition": condition})
