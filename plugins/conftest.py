"""Mark of slow conformance checks: those that train a recipe which does not stand for its method."""

import pytest

HEADLINES = ("mathm", "mathm-gan", "acnet", "normsoftmax", "generative", "vtd", "landmarks")


@pytest.hookimpl(tryfirst=True)  # before the marks are selected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = getattr(item, "callspec", None) and item.callspec.params.get("name", "")  # type: ignore[attr-defined]
        kind, _, rest = str(name or "").partition("/")
        recipe, _, check = rest.partition("/")
        if kind == "recipe" and recipe not in HEADLINES and check != "is_complete_as_it_stands":
            item.add_marker(pytest.mark.slow)
