"""Blocks of docs/exchange.md."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "exchange.md"
EXPORT, PREPARE, SEARCH, HUB = range(4)  # its blocks of Python, in order


def python_blocks() -> list[str]:
    return _blocks("python")


def commands() -> list[str]:
    """The commands of all shell blocks, line by line."""
    return [line for block in _blocks("sh") for line in block.splitlines()]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
