"""Operations on CSV: cells, rows and columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from random import Random
from typing import Any

from tests.fuzz.operations import raw
from tests.fuzz.operations.raw import Operation

CELLS = (
    *(
        "",
        " ",
        "../x",
        "../../etc/passwd",
        "/etc/passwd",
        "a\0b",
        '"',
        '"x',
        "x,y",
        "x\ny",
        "\ud800",
        "é",
        "nan",
        "inf",
        "1e999",
        "-0",
        "true",
    ),
    *("path", "photo", "sketch", "[[", "'", "0x", "2020-01-01", "1_000", "." * 300, "photo", "photo/", "."),
)
LONG = {"text": "x", "times": 140_000}  # longer than the csv module takes


def read(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


def written(rows: list[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def change_table(content: bytes, do: str, **arguments: Any) -> bytes:
    """The table with one cell, row or column altered."""
    return written(ACTIONS[do](read(content), **arguments))


def _cell(rows: list[list[str]], row: int, column: int, text: str, times: int = 1) -> list[list[str]]:
    rows[row][column] = text * times
    return rows


def _drop_row(rows: list[list[str]], row: int) -> list[list[str]]:
    return rows[:row] + rows[row + 1 :]


def _repeat_row(rows: list[list[str]], row: int, times: int) -> list[list[str]]:
    return rows[:row] + [rows[row]] * times + rows[row + 1 :]


def _swap_rows(rows: list[list[str]], row: int, other: int) -> list[list[str]]:
    rows[row], rows[other] = rows[other], rows[row]
    return rows


def _drop_column(rows: list[list[str]], column: int) -> list[list[str]]:
    return [row[:column] + row[column + 1 :] for row in rows]


def _repeat_column(rows: list[list[str]], column: int) -> list[list[str]]:
    return [[*row, row[column]] for row in rows]


def _more(rows: list[list[str]], row: int, text: str) -> list[list[str]]:
    rows[row] = [*rows[row], text]
    return rows


def _fewer(rows: list[list[str]], row: int) -> list[list[str]]:
    rows[row] = rows[row][:-1]
    return rows


ACTIONS: dict[str, Callable[..., list[list[str]]]] = {
    "cell": _cell,
    "drop row": _drop_row,
    "repeat row": _repeat_row,
    "swap rows": _swap_rows,
    "drop column": _drop_column,
    "repeat column": _repeat_column,
    "more": _more,
    "fewer": _fewer,
}


def draw(random: Random, content: bytes) -> Operation:
    """One operation that fits the table, a quarter of them on its bytes."""
    if random.random() < 0.25:
        return raw.draw(random, content)
    rows = read(content)
    row, column = random.randrange(len(rows)), random.randrange(len(rows[0]))
    cell = {"op": "table", "do": "cell", "row": row, "column": column}
    elsewhere = random.choice(rows)[column]
    return random.choice(
        (
            lambda: {**cell, "text": random.choice(CELLS)},
            lambda: {**cell, "text": random.choice(CELLS)},
            lambda: {**cell, "text": elsewhere},
            lambda: {**cell, **LONG},
            lambda: {**cell, "text": "1", "times": random.choice((30, 5_000))},
            lambda: {**cell, "text": "[", "times": random.choice((200, 5_000))},
            lambda: {"op": "table", "do": "drop row", "row": row},
            lambda: {"op": "table", "do": "repeat row", "row": row, "times": random.choice((2, 1000))},
            lambda: {"op": "table", "do": "swap rows", "row": row, "other": random.randrange(len(rows))},
            lambda: {"op": "table", "do": "drop column", "column": column},
            lambda: {"op": "table", "do": "repeat column", "column": column},
            lambda: {"op": "table", "do": "more", "row": row, "text": random.choice(CELLS)},
            lambda: {"op": "table", "do": "fewer", "row": row},
        )
    )()
