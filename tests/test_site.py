"""The site: it builds without a warning, its reference is whole, its tutorials run as printed, and questions have their answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import numpy as np
import pytest
from docs import notebooks, reference
from nbclient import NotebookClient
from PIL import Image
from tests.commands import run
from tests.conftest import SMALL, figure, write_figures

import sbirlib
from sbirlib import plugin_api

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
QUESTIONS = tomllib.loads((ROOT / "tests" / "questions.toml").read_text(encoding="utf-8"))["questions"]
TOWER = 'encoder = { name = "backbone", backbone = "test_resnet", pretrained = false, dim = 16 }\ntransform = { size = 32 }\nphases = []\n'
# recipes whose weights lie on the hub, and that train for minutes, stand for small ones of the same commands
STANDS_FOR = {"index clip ": "index tower.toml ", "train sbirlib ": "train small.toml ", "train supcon ": "train small.toml "}


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: str) -> set[str]:
    """Headings of a page, as its address has them."""
    headings = re.findall(r"^#+ (.+)$", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `my-data`, `my-photos`, a drawing and the small recipes, as the current one."""
    write_figures(tmp_path / "my-data", each=4)
    (tmp_path / "my-photos").mkdir()
    random = np.random.default_rng(0)
    for i in range(60):
        Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(tmp_path / "my-photos" / f"{i}.png")
    figure(0, 9, True).save(tmp_path / "drawing.png")
    (tmp_path / "small.toml").write_text(SMALL)
    (tmp_path / "tower.toml").write_text(TOWER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stand_for(line: str) -> str:
    """The command with a small recipe in place of one that is large, or lies on the hub."""
    for text, stand in STANDS_FOR.items():
        line = line.replace(text, stand)
    return line


@pytest.mark.parametrize(("first", "then"), [("draw", None), ("train", "million")])
def test_the_commands_of_a_tutorial_run_in_order(first: str, then: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in filter(None, (first, then)):
        lines = "".join(blocks(f"tutorials/{name}.md", "sh")).splitlines()
        assert len(lines) >= 3
        for line in lines:
            run(stand_for(line), monkeypatch)
    assert (folder / "drawing-found.png").is_file()
    assert (folder / ("big-index" if then else "my-index")).is_dir()


@pytest.mark.slow
def test_the_commands_that_reproduce_a_row_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in "".join(blocks("tutorials/reproduce.md", "sh")).splitlines():
        run(stand_for(line), monkeypatch)
    assert (folder / "mine" / "results" / "smoke.jsonl").is_file()


@pytest.mark.parametrize("page", ["tutorials/compose.md", "howto.md"])
def test_the_code_of_a_page_runs(page: str, folder: Path) -> None:
    names: dict[str, object] = {"__name__": "page"}
    code = blocks(page, "python")
    assert len(code) >= 5
    for block in code:
        exec(compile(block, page, "exec"), names)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(DOCS), str(tmp_path / "site")]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert process.returncode == 0, process.stdout + process.stderr
    written = {file.relative_to(tmp_path / "site").with_suffix(".md").as_posix() for file in (tmp_path / "site").rglob("*.html")}
    assert {"index.md", "reference/losses.md", "reference/recipes/mathm.md", "tutorials/draw.md"} <= written
    assert "https://" not in re.sub(r"<a [^>]*>", "", (tmp_path / "site" / "howto.html").read_text(encoding="utf-8")), (
        "a request leaves the site"
    )


def test_the_reference_is_whole() -> None:
    page = reference.api()
    assert [name for name in sbirlib.__all__ if f"\n## {name}\n" not in page] == []
    page = reference.names_of(plugin_api, "Plugin API")
    assert [name for name in plugin_api.__all__ if f"\n## {name}\n" not in page] == []
    for kind in reference.KINDS:
        page = reference.components(kind)
        assert [name for name in reference.names(kind) if f"\n## {name}\n" not in page] == [], kind


def test_a_name_without_a_docstring_stops_the_build() -> None:
    with pytest.raises(ValueError, match="nameless has no docstring: write one"):
        reference.entry("nameless", lambda: None)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["asks"])
def test_a_question_has_its_page_and_heading(question: dict[str, str]) -> None:
    if question["page"].startswith("reference/"):
        kinds = {reference.plural(kind): kind for kind in reference.KINDS}
        name = question["page"].removeprefix("reference/").removesuffix(".md")
        pages = {"plugin_api": lambda: reference.names_of(plugin_api, "Plugin API"), "command_line": reference.command_line}
        text = reference.components(kinds[name]) if name in kinds else pages[name]()
        assert f"\n## {question['heading']}\n" in text
        return
    assert question["heading"] in anchors(question["page"])


@pytest.mark.parametrize(
    "page",
    sorted(
        page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if "](images" in page.read_text() or "/images/" in page.read_text()
    ),
)
def test_a_picture_has_its_command(page: str) -> None:
    commands = re.findall(r"`python -m (benchmarks\.[\w.]+)", (DOCS / page).read_text(encoding="utf-8"))
    programs = {ROOT / f"{name.replace('.', '/')}.py" for name in commands}
    assert programs, "a command of `benchmarks` makes each picture of a page: name it"
    assert [program for program in programs if not program.is_file()] == []


def test_there_are_twenty_questions() -> None:
    assert len({question["asks"] for question in QUESTIONS}) >= 20


@pytest.mark.parametrize("name", notebooks.PAGES)
def test_a_notebook_is_that_of_its_page(name: str) -> None:
    stored = nbformat.read(notebooks.FOLDER / f"{name}.ipynb", as_version=4)
    assert stored == notebooks.notebook(notebooks.PAGES[name]), "write it anew: python -m docs.notebooks"


@pytest.mark.slow
@pytest.mark.parametrize("name", notebooks.PAGES)
def test_a_notebook_runs(name: str, tmp_path: Path) -> None:
    stored = nbformat.read(notebooks.FOLDER / f"{name}.ipynb", as_version=4)
    NotebookClient(stored, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any(cell.get("outputs") for cell in stored.cells)
