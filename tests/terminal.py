"""The command line, as a terminal calls it."""

from __future__ import annotations

import pytest

from sbirlib import cli


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run `sbirlib` with these words; return its exit status."""
    monkeypatch.setattr("sys.argv", ["sbirlib", *words])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0
