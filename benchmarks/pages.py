"""Tables that are rendered into a page between two marks."""

from __future__ import annotations

from pathlib import Path

from sbirlib.errors import InputError
from sbirlib.files import atomic_write


def fill(page: Path, content: str, begin: str, end: str, text: str) -> None:
    """Write a page with its `content`, such as "claims", as `text` between its lines `begin` and `end`, atomically.

    Raises InputError where the page lacks them.
    """
    before, begins, rest = page.read_text(encoding="utf-8").partition(begin)
    _, ends, after = rest.partition(end)
    if not (begins and ends):
        raise InputError(f"{page.name} has no place for its {content}: write the lines {begin!r} and {end!r} where it belongs")
    with atomic_write(page) as partial:
        partial.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
