"""Configuration of the site: Sphinx with Furo and MyST, `make docs`; pages of the reference are written at each build by reference.py."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

project = "sbirlib"
author = "the sbirlib authors"
release = metadata.version("sbirlib")
extensions = ["myst_parser", "sphinx_copybutton"]
html_theme = "furo"
html_title = "sbirlib"
html_show_copyright = False
smartquotes = False  # which would change quoted values
html_extra_path = ["results.html"]  # a page of its own
myst_heading_anchors = 3
copybutton_exclude = ".linenos, .gp, .go"
suppress_warnings = ["misc.highlighting_failure"]  # of shell lines with placeholders

PAGE = re.compile(r"`docs/([\w/]+\.md)`")


def links(_: Any, name: str, source: list[str]) -> None:
    """Turn `docs/PAGE.md`, as pages name each other for readers of the repository, into links of the site."""
    up = "../" * name.count("/")
    source[0] = PAGE.sub(lambda match: f"[{match[1].removesuffix('.md')}]({up}{match[1]})", source[0])


def setup(app: Any) -> None:
    """Write the reference before pages are read."""
    from docs import reference

    reference.write(HERE / "reference")
    app.connect("source-read", links)
