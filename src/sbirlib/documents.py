"""Texts and JSON that a user may be handed: read as UTF-8, bounded in size, held to a declared schema, every fault an InputError with its place."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import xxhash
from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from sbirlib.errors import InputError
from sbirlib.files import is_file

T = TypeVar("T")
MAX_TEXT = 2**28  # bytes of a text file: a manifest of two million images
SHOWN = 3  # faults named in one message
KEY = "xxh3"

Name = Annotated[str, MinLen(1), MaxLen(1000)]
Count = Annotated[int, Ge(0), Le(2**53)]  # what JSON readers of every language hold exactly


class Schema(BaseModel):
    """Base of every schema of a document: strict types, no further keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def read_text(path: str | Path, *, expected: str = "a text file") -> str:
    """The content of a UTF-8 text file, without a byte order mark; InputError where there is none, or it is too large or no UTF-8."""
    source = Path(path)
    if not is_file(source):
        raise InputError(f"there is no file {str(source)[:500]!r}: expected {expected}")
    try:
        size = source.stat().st_size
        if size > MAX_TEXT:
            raise InputError(f"{str(source)!r} has {size} bytes, more than the {MAX_TEXT} of the largest text that is read: split it")
        return decoded(source.read_bytes(), str(source))
    except OSError as error:
        raise InputError(f"{str(source)!r} cannot be read ({error.strerror}): expected {expected}") from error


def read_rows(path: str | Path, columns: Collection[str], *, expected: str) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with these columns and perhaps others: the line of each, and its values by column.

    Raises InputError for a column that is missing or there twice, and for a row of fewer or more values.
    """
    table = csv.reader(io.StringIO(read_text(path, expected=expected), newline=""))
    try:
        names = next(table, [])
        if missing := [name for name in columns if name not in names]:
            raise InputError(f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it needs {', '.join(columns)}")
        if len(set(names)) < len(names):
            twice = Counter(names).most_common(1)[0][0]
            raise InputError(f"{path} has the column {twice[:80]!r} twice: give each column a name of its own")
        rows = []
        for values in filter(None, table):
            if len(values) != len(names):
                raise InputError(f"{path}, line {table.line_num}: {len(values)} values for {len(names)} columns: give each column one")
            rows.append((table.line_num, dict(zip(names, values, strict=True))))
        return rows
    except csv.Error as error:
        raise InputError(
            f"{path}, line {table.line_num}: {error}: expected comma-separated values, each of at most 131,072 letters"
        ) from error


def decoded(content: bytes, where: str) -> str:
    """UTF-8 as text; InputError with the line of the first byte that is none."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{where}, line {line}: the byte 0x{content[error.start]:02x} is no UTF-8 ({error.reason}): save the file as UTF-8"
        ) from error


def read_json(text: str | bytes, schema: TypeAdapter[T], where: str) -> T:
    """JSON held to a schema, strictly; InputError with the places that do not fit."""
    try:
        return schema.validate_json(text, strict=True)
    except ValidationError as error:
        raise InputError(f"{where} {_faults(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON: {error}") from error


def read_object(value: Any, schema: TypeAdapter[T], where: str) -> T:
    """A part of JSON that was parsed already, held to its own schema."""
    try:
        return schema.validate_python(value, strict=True)
    except ValidationError as error:
        raise InputError(f"{where} {_faults(error)}") from error


def _faults(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        return f"is not valid JSON: {faults[0].get('ctx', {}).get('error', faults[0]['msg'])}"
    lines = []
    for fault in faults[:SHOWN]:
        place = ".".join(map(str, fault["loc"]))[:200]
        lines.append(f"{place or 'its content'}: {fault['msg'][:200]}")
    more = f" (and {len(faults) - SHOWN} more)" if len(faults) > SHOWN else ""
    return f"is damaged, or by another program: {'; '.join(lines)}{more}"


def with_digest(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the digest of its other entries under "xxh3"."""
    entries = {name: value for name, value in content.items() if name != KEY}
    return {**entries, KEY: _digest(entries)}


def check_digest(content: Mapping[str, Any], where: str) -> None:
    """Raise InputError where the digest in a JSON object is not that of its other entries; an object without one passes."""
    if KEY in content and with_digest(content)[KEY] != content[KEY]:
        raise InputError(f"{where} is damaged: its content is not that of its digest; take another copy, or make it again")


def _digest(entries: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(entries, sort_keys=True, separators=(",", ":")).encode())


def scalar(text: str) -> str | int | float | bool:
    """A whole number, a number, true or false as such; all else is text."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # TOML's own errors, and numbers and tables that Python does not read
        return text
    return value if isinstance(value, int | float | bool) else text
