"""`sbirlib search` as a command: paths of sketches on standard input, and filters."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import typer
from tests.fuzz.targets import indexes, world
from tests.fuzz.targets.target import Target
from tests.fuzz.targets.texts import arguments

from sbirlib import cli

SKETCHES = tuple(f"{i}.png" for i in range(5))
FILTERS = "category=cat\ncategory=dog\nyear=2001\nnew=true"


def make(name: str, text: str, folder: Path) -> None:
    """An index, sketches, and a text."""
    indexes.make("flat", folder / "index")
    data = world.dataset().sketches
    for i, path in enumerate(SKETCHES):
        world.save_png(folder / path, data.read(i))
    (folder / name).write_text(text, encoding="utf-8")


@lru_cache(maxsize=1)
def _commands() -> Any:
    return typer.main.get_command(cli.app)


def command(words: list[str], standard_input: bytes = b"") -> str:
    """What a command prints, with streams that are as strict as those of a terminal."""
    output = io.BytesIO()
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace") for name in ("stderr",)}
    streams |= {
        "stdin": io.TextIOWrapper(io.BytesIO(standard_input), encoding="utf-8"),
        "stdout": io.TextIOWrapper(output, encoding="utf-8"),
    }
    with ExitStack() as stack:
        for name, stream in streams.items():
            stack.enter_context(mock.patch.object(sys, name, stream))
        _commands().main(args=words, prog_name="sbirlib", standalone_mode=False)
        streams["stdout"].flush()
        return output.getvalue().decode()


def answer_lines(folder: Path) -> Any:
    """The answers to the lines that name a sketch; a line that does not must not keep the others from theirs."""
    text = b"\n".join(map(os.fsencode, [*arguments(folder / "lines.txt"), ""]))
    asked = [line.strip().decode() for line in text.split(b"\n") if line.strip() in {path.encode() for path in SKETCHES}]
    printed = [json.loads(line) for line in command(["search", "-", "--index", "index", "--json", "-k", "3"], text).splitlines()]
    answers = [(Path(line["sketch"]).name, line["hits"]) for line in printed if "hits" in line]
    for name in set(asked):
        correct = sum(answer == (name, expected()[name]) for answer in answers)
        assert correct >= asked.count(name), f"{name} was asked {asked.count(name)} times, and answered {correct} times as it should be"
    return asked


@lru_cache(maxsize=1)
def expected() -> dict[str, Any]:
    """The hits of each sketch."""
    printed = command(["search", "-", "--index", "index", "--json", "-k", "3"], "\n".join(SKETCHES).encode())
    return {Path(line["sketch"]).name: line["hits"] for line in map(json.loads, printed.splitlines())}


def answer_filters(folder: Path) -> Any:
    words = [f"--where={line}" for line in arguments(folder / "filters.txt")]
    return command(["search", "0.png", "--index", "index", "--json", *words])


TARGETS = [
    Target("stdin", lambda folder: make("lines.txt", "\n".join((*SKETCHES, "")), folder), answer_lines, {"lines.txt": "lines"}),
    Target("filters", lambda folder: make("filters.txt", FILTERS, folder), answer_filters, {"filters.txt": "lines"}),
]
