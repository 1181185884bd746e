from collections.abc import Callable
from typing import Any

import pytest

from sbirlib.testing import all_checks, check_part

CHECKS = all_checks("sbirlib-mathm")


def trains_an_ablation(name: str) -> bool:
    """Whether a check trains a recipe other than those that stand for the method."""
    part, _, check = name.rpartition("/")
    return part.startswith("recipe/") and part not in ("recipe/mathm", "recipe/mathm-gan") and check != "is_complete_as_it_stands"


@pytest.mark.parametrize(("name", "check"), [check for check in CHECKS if not trains_an_ablation(check[0])])
def test_conforms(name: str, check: Callable[[], None]) -> None:
    check()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "check"), [check for check in CHECKS if trains_an_ablation(check[0])])
def test_ablations_conform(name: str, check: Callable[[], None]) -> None:
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
