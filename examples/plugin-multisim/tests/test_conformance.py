"""Conformance of the plugin's components."""

import pytest

from sbirlib.testing import all_checks


@pytest.mark.parametrize(("name", "check"), all_checks("sbirlib-multisim"))
def test_conforms(name, check):
    check()
