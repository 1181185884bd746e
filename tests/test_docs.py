"""Commands, code and tables of the documents, run as they are printed."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from sbirlib import cli, registry

ROOT = Path(__file__).parent.parent
PLUGINS = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def fresh(tmp_path: Path) -> dict[str, str]:
    """Variables of a new virtual environment that sees the packages installed here, and fetches nothing."""
    if find_spec("pip") is None:
        pytest.skip("pip is not installed here: the page's own commands need it")
    venv.create(tmp_path / "venv", with_pip=False)
    binaries = tmp_path / "venv" / "bin"
    here = sysconfig.get_path("purelib")
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (site / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    for name, module in {"pip": "pip", "pytest": "pytest", "sbirlib": "sbirlib.cli"}.items():
        call = f"-c 'from {module} import main; main()'" if name == "sbirlib" else f"-m {module}"
        (binaries / name).write_text(f'#!/bin/sh\nexec "{binaries}/python" {call} "$@"\n')
        (binaries / name).chmod(0o755)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON", "PIP"))}
    offline = {"PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_DEPS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return inherited | offline | {"PATH": f"{binaries}:{os.environ['PATH']}", "VIRTUAL_ENV": str(tmp_path / "venv")}


@pytest.mark.slow
def test_a_plugin_from_nothing_by_the_page_alone(fresh: dict[str, str], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    commands = "".join(blocks(PLUGINS, "sh"))
    process = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=empty, env=fresh, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert re.search(r"^contrastive$", process.stdout, flags=re.MULTILINE)
    assert re.search(r"passed", process.stdout)
    assert re.search(r"loss +contrastive +sbirlib-contrastive +0\.1\.0 +ok", process.stdout)
    assert "'mAP@all': " in process.stdout
    source = (empty / "sbirlib-contrastive/src/sbirlib_contrastive/contrastive.py").read_text()
    code = blocks(PLUGINS, "python")[0]
    assert [line for line in code.splitlines() if line.strip() and line not in source] == []
    assert blocks(PLUGINS, "toml")[0] in (empty / "sbirlib-contrastive/pyproject.toml").read_text()


def test_the_table_of_states_is_what_is_printed(
    in_every_state: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["sbirlib", "plugins", "--check"])
    with pytest.raises(SystemExit):
        cli.main()
    printed = capsys.readouterr().out.splitlines()
    theirs = ("good", "broken", "taker", "malformed", "ahead")
    rows = [line.split() for line in printed if line.startswith("kind") or set(theirs) & set(line.split()[:3])]
    table = [line.split() for line in blocks(PLUGINS, "text")[0].splitlines()]
    assert table == rows


def test_every_recipe_stands_in_the_page_of_its_method() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "methods").glob("*.md"))
    ours = [e.name for e in registry.scan().entries if e.kind == "recipe" and e.distribution.startswith("sbirlib-")]
    assert ours
    assert [name for name in ours if f"`{name}`" not in pages] == []


@pytest.mark.slow
def test_the_example_plugin_passes_its_tests(install_project: Callable[[Path], list[Path]]) -> None:
    example = ROOT / "examples" / "plugin-multisim"
    path = os.pathsep.join(map(str, install_project(example)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(example), str(example / "tests")]
    process = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    assert " passed" in process.stdout


def test_the_walks_of_the_architecture_pass_functions_that_are_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    walk = re.findall(r"^\d+\. `(src/[\w/]+\.py)` `(\w+)`", page, flags=re.MULTILINE)
    assert len(walk) == 35
    missing = [
        f"{file} {name}"
        for file, name in walk
        if not re.search(rf"^\s*(async def|def|class) {name}\b", (ROOT / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
    ]
    assert not missing


def test_every_room_of_the_architecture_is_there_and_every_module_in_a_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Rooms")[2].partition("\n## ")[0]
    rooms = set(re.findall(r"`(\w+(?:\.py|/))`", "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))))
    package = ROOT / "src" / "sbirlib"
    there = {f.name for f in package.glob("*.py")} | {f"{f.name}/" for f in package.iterdir() if (f / "__init__.py").is_file()}
    assert rooms == there - {"__init__.py"}
