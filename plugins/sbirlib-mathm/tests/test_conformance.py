from collections.abc import Callable

import pytest

from sbirlib.testing import all_checks, check_part


@pytest.mark.parametrize(("name", "check"), all_checks("sbirlib-mathm"))
def test_conforms(name: str, check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize("condition", ["add", "concatenate"])
@pytest.mark.parametrize("backbone", ["seresnext26d_32x4d", "mobilenetv3_small_050", "test_vit"])
def test_cse_conforms_around_any_backbone(backbone: str, condition: str) -> None:
    check_part("encoder", "cse", options={"backbone": backbone, "condition": condition})
