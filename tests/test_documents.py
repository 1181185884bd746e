"""Texts, tables and JSON from files: bounds, encodings, and messages with their places."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter

from sbirlib import documents
from sbirlib.documents import check_digest, read_json, read_rows, read_text, with_digest
from sbirlib.errors import InputError


class Point(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    x: int
    names: list[str] = []


POINT = TypeAdapter(Point)


def test_a_text_is_read_without_its_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfa\xc3\xbc\r\n")
    assert read_text(tmp_path / "a") == "aü\r\n"


def test_a_byte_that_is_no_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\ntwo\nth\xffree")
    with pytest.raises(InputError, match=r"a, line 3: the byte 0xff is no UTF-8 \(invalid start byte\): save the file as UTF-8"):
        read_text(tmp_path / "a")


@pytest.mark.parametrize("name", ["none", "x" * 5000, "a\0b", ""])
def test_a_file_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file .* expected a list"):
        read_text(tmp_path / name, expected="a list")


def test_a_text_beyond_the_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("x" * 100)
    monkeypatch.setattr(documents, "MAX_TEXT", 99)
    with pytest.raises(InputError, match="has 100 bytes, more than the 99"):
        read_text(tmp_path / "a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"x": 1.5}', "x: Input should be a valid integer"),
        ('{"x": "1"}', "x: Input should be a valid integer"),
        ('{"x": 1, "names": ["a", 2]}', "names.1: Input should be a valid string"),
        ('{"x": 1, "y": 2}', "y: Extra inputs are not permitted"),
        ("{}", "x: Field required"),
        ("[]", "its content: Input should be an object"),
        ('{"x": 1', "is not valid JSON: EOF while parsing an object at line 1 column 7"),
        ("", "is not valid JSON: EOF"),
        ("[" * 100_000, "is not valid JSON: recursion limit exceeded"),
        ('{"x": 1, "names": [1, 2, 3, 4, 5]}', r"\(and 2 more\)"),
        ('{"x": 1, "names": ["\\ud800"]}', "is not valid JSON"),
    ],
)
def test_json_is_held_to_its_schema(text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"here {message}|here is damaged, or by another program: .*{message}"):
        read_json(text, POINT, "here")


def test_json_may_not_be_utf8() -> None:
    with pytest.raises(InputError, match="here is not valid JSON"):
        read_json(b'{"x": 1, "names": ["\xff"]}', POINT, "here")


def test_a_seal_holds_the_other_entries() -> None:
    content = with_digest({"a": 1.5, "b": ["ü", None, float("nan")]})
    check_digest(content, "here")
    check_digest({"a": 1}, "here")
    assert with_digest(content) == content
    changes: list[dict[str, Any]] = [{"a": 1.25}, {"c": 0}, {"xxh3": 5}, {"xxh3": "0" * 32}]
    for change in changes:
        with pytest.raises(InputError, match="here is damaged: its content is not that of its digest"):
            check_digest({**content, **change}, "here")


def test_rows_have_their_lines_and_quoted_breaks(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes('path,note\na,"one\ntwo"\n\nb,\u2028\r\n'.encode())
    assert read_rows(tmp_path / "a.csv", ["path"], expected="x") == [
        (3, {"path": "a", "note": "one\ntwo"}),
        (5, {"path": "b", "note": "\u2028"}),
    ]
