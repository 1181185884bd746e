"""Notebooks from pages with code, so that neither differs from the other: `python -m docs.notebooks` writes those of examples/notebooks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat

HERE = Path(__file__).parent
FOLDER = HERE.parent / "examples" / "notebooks"
PAGES = {"compose": "tutorials/compose.md", "how_to": "howto.md"}
SITE = re.compile(r"\]\((?!https?:|#)([\w/]+)\.md(#[\w-]+)?\)")


def main() -> None:
    """Write every notebook."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        nbformat.write(notebook(page), FOLDER / f"{name}.ipynb")
        print(FOLDER / f"{name}.ipynb")


def notebook(page: str) -> Any:
    """The notebook of a page: its Python blocks are cells of code, all else is Markdown; without outputs."""
    text = (HERE / page).read_text(encoding="utf-8")
    up = "../../docs/" + "/".join(page.split("/")[:-1])
    cells = []
    for number, part in enumerate(re.split(r"^```python\n(.*?)^```$\n?", text, flags=re.MULTILINE | re.DOTALL)):
        if part.strip():
            if number % 2:
                cells.append(nbformat.v4.new_code_cell(part.strip(), id=f"cell-{number}"))
            else:
                cells.append(nbformat.v4.new_markdown_cell(linked(part.strip(), up), id=f"cell-{number}"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def linked(text: str, up: str) -> str:
    """Markdown whose links lead to the pages beside the notebook's own."""
    return SITE.sub(lambda match: f"]({up.rstrip('/')}/{match[1]}.md{match[2] or ''})", text)


if __name__ == "__main__":
    main()
