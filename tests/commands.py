"""Commands as pages print them, run in this process, which spares each the import of torch; other programs in one of their own."""

from __future__ import annotations

import runpy
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.processes.launch import ROOT, environment

from sbirlib import cli


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one command in the current folder; AssertionError, with the command, where it fails."""
    words = shlex.split(line)
    if words[0] == "sbirlib":
        monkeypatch.setattr("sys.argv", words)
        assert code_of(cli.main) == 0, line
    elif words[0] == "python":
        monkeypatch.setattr("sys.argv", words[1:])
        assert code_of(lambda: runpy.run_path(str(ROOT / words[1]), run_name="__main__")) == 0, line
    else:
        process = subprocess.run(words, env=environment(), cwd=Path.cwd(), capture_output=True, text=True, check=False)
        print(process.stdout, process.stderr)
        assert process.returncode == 0, line


def code_of(main: Callable[[], object]) -> int:
    """Exit code of a program."""
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0
