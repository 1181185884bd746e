"""Operations on lines of text: recipes, KEY=VALUE arguments, lists of paths, and lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from tests.fuzz.operations import raw, structure
from tests.fuzz.operations.raw import Operation

VALUES = (
    *(
        "",
        "0",
        "-1",
        "1.5",
        "nan",
        "-inf",
        "1e999",
        str(2**31),
        str(2**63),
        str(10**30),
        "1_0",
        "0x1f",
        "true",
        "null",
        '""',
        "'",
        '"""',
        "\\",
    ),
    *(
        "[]",
        "{}",
        "[[",
        "{a=",
        "[1, 'x']",
        "{ name = 'cse' }",
        "{name: x}",
        "2020-01-01",
        "12:00:00",
        "x",
        "../x",
        "/etc/passwd",
        "é",
        "\0",
    ),
    *(
        "# x",
        '"\\ud800"',
        "[[1]]",
        "{ object = 'Mine' }",
        "1 # x",
        "a = 1",
        "\t",
        "%s",
        "${HOME}",
        "~",
        "file:///etc/passwd",
        "-",
        "--json",
    ),
)
KEYS = (
    "",
    ".",
    "a",
    "a.b",
    "encoder",
    "phases.0.steps",
    "phases.99.steps",
    "phases.x",
    "losses",
    "name",
    "format",
    "x" * 300,
    "a..b",
    "é",
    "\0",
)


def change_line(content: bytes, line: int, do: str, **arguments: Any) -> bytes:
    """The text with one line altered."""
    lines = content.split(b"\n")
    return b"\n".join([*lines[:line], *ACTIONS[do](lines[line], lines, **arguments), *lines[line + 1 :]])


def _value(line: bytes, lines: list[bytes], text: str, times: int = 1) -> list[bytes]:
    """Another value after the first equals sign."""
    return [line.partition(b"=")[0] + b"= " + text.encode("utf-8", "surrogatepass") * times]


def _key(line: bytes, lines: list[bytes], text: str, times: int = 1) -> list[bytes]:
    """Another key before the first equals sign."""
    return [text.encode("utf-8", "surrogatepass") * times + b"=" + line.partition(b"=")[2]]


def _whole(line: bytes, lines: list[bytes], text: str, times: int = 1) -> list[bytes]:
    return [text.encode("utf-8", "surrogatepass") * times]


def _inside(line: bytes, lines: list[bytes], inner: Operation) -> list[bytes]:
    """An operation on the bytes, or on the JSON, of the line."""
    return [structure.change(line, inner)]


ACTIONS: dict[str, Callable[..., list[bytes]]] = {
    "value": _value,
    "key": _key,
    "whole": _whole,
    "inside": _inside,
    "drop": lambda line, lines: [],
    "repeat": lambda line, lines, times: [line] * times,
    "copy": lambda line, lines, other: [line, lines[other]],
}


def draw(random: Random, content: bytes) -> Operation:
    """One operation that fits the text, a few of them on bytes anywhere."""
    if random.random() < 0.15:
        return raw.draw(random, content)
    lines = content.split(b"\n")
    line = random.randrange(len(lines))
    return {"op": "line", "line": line, **_draw(random, line, lines)}


def draw_json(random: Random, content: bytes) -> Operation:
    """One operation on a text whose lines are JSON."""
    lines = content.split(b"\n")
    line = random.choice([i for i, text in enumerate(lines) if text])
    if random.random() < 0.3:
        return draw(random, content)
    return {"op": "line", "line": line, "do": "inside", "inner": structure.draw(random, lines[line])}


def _draw(random: Random, line: int, lines: list[bytes]) -> Operation:
    value = random.choice(
        (
            {"text": random.choice(VALUES)},
            {"text": random.choice(VALUES)},
            {"text": json.dumps(random.choice(structure.TEXTS))},
            random.choice(
                (
                    {"text": "[", "times": 5_000},
                    {"text": "1", "times": 5_000},
                    {"text": "x", "times": 100_000},
                    {"text": "a.", "times": 3_000},
                )
            ),
        )
    )
    return random.choice(
        (
            {"do": "value", **value},
            {"do": "value", **value},
            {"do": "whole", **value},
            {"do": "key", "text": random.choice(KEYS)},
            {"do": "drop"},
            {"do": "repeat", "times": random.choice((2, 40))},
            {"do": "copy", "other": random.randrange(len(lines))},
            {"do": "inside", "inner": raw.draw(random, lines[line])},
        )
    )
