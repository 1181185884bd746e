"""The plugin API: complete, documented, and all that the plugins of this project import."""

import ast
import re
from pathlib import Path

import pytest

from sbirlib import plugin_api

ROOT = Path(__file__).parents[1]
SOURCES = [*sorted((ROOT / "plugins").glob("*/src/**/*.py")), *sorted((ROOT / "examples").glob("plugin-*/src/**/*.py"))]
TEMPLATES = sorted((ROOT / "src" / "sbirlib" / "skeleton").glob("*.py.in"))
IN_TESTS = {"sbirlib.testing"}
FOR_OTHERS = {"Adapter", "Around", "Transform", "euclidean", "nearest"}  # of the contract, though no plugin here needs them


def imports(path: Path) -> list[tuple[str, str]]:
    """Module and name of everything that a file imports from sbirlib."""
    tree = ast.parse(re.sub(r"\$(\w+)", r"x_\1", path.read_text(encoding="utf-8")))
    names = [(n.module or "", a.name) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level for a in n.names]
    names += [(a.name, "") for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    return [(module, name) for module, name in names if module.split(".")[0] == "sbirlib" and module not in IN_TESTS]


@pytest.mark.parametrize("path", [*SOURCES, *TEMPLATES], ids=lambda p: str(p.relative_to(ROOT)))
def test_a_plugin_imports_the_plugin_api_alone(path: Path) -> None:
    assert {module for module, _ in imports(path)} <= {"sbirlib.plugin_api"}
    assert {name for _, name in imports(path)} <= set(plugin_api.__all__)


def test_the_api_is_all_that_plugins_use() -> None:
    assert len(SOURCES) > 30
    assert {name for path in SOURCES for _, name in imports(path)} | FOR_OTHERS == set(plugin_api.__all__)


def test_the_api_is_all_that_its_module_defines() -> None:
    assert {name for name in vars(plugin_api) if not name.startswith("_")} == set(plugin_api.__all__)


def test_the_api_is_documented() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    table = page.partition("## The plugin API")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", table, re.MULTILINE)
    names = [name for cell, meaning in rows if meaning for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(names) == sorted(plugin_api.__all__)
