"""Operations applied to the files of a folder, and operations drawn for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.operations import lines, pictures, raw, reseal, structure, tables, tensors
from tests.fuzz.operations.raw import Operation

CHANGES: dict[str, Callable[..., bytes]] = {
    **raw.BYTES,
    "json": structure.change_json,
    "header": tensors.change_header,
    "tensor": tensors.change_tensor,
    "record": tensors.change_record,
    "table": tables.change_table,
    "line": lines.change_line,
    "chunk": pictures.change_chunk,
    "entry": pictures.change_entry,
}
DRAWS: dict[str, Callable[[Random, bytes], Operation]] = {
    "bytes": raw.draw,
    "json": lambda random, content: raw.draw(random, content) if random.random() < 0.25 else structure.draw(random, content),
    "safetensors": tensors.draw,
    "csv": tables.draw,
    "lines": lines.draw,
    "jsonl": lines.draw_json,
    "image": pictures.draw,
    "png": pictures.draw_png,
    "tiff": pictures.draw_tiff,
}
COUNTS = (1, 1, 1, 1, 2, 3, 4)
OF_FILE = 0.02  # share of the operations on the file itself
FORGED = 0.5  # share of the cases whose digests are written anew, where there are digests


def draw(random: Random, folder: Path, forms: Mapping[str, str], *, digests: bool) -> list[Operation]:
    """Operations on the files of a folder, each of the form that `forms` has for its name (a pattern)."""
    files = [(path, form) for pattern, form in forms.items() for path in sorted(folder.glob(pattern))]
    forged = digests and random.random() < FORGED
    operations = []
    for _ in range(random.choice(COUNTS)):
        path, form = random.choice(files)
        content = path.read_bytes()
        operation = DRAWS[form](random, content)
        if forged and operation["op"] in raw.BYTES:  # most bytes that a digest is written over are no file of that format any more
            operation = DRAWS[form](random, content)
        if random.random() < OF_FILE:
            operation = raw.draw_file(random)
        operations.append({"file": path.relative_to(folder).as_posix(), **operation})
    return [*operations, {"op": "reseal"}] if forged else operations


def apply(operations: Sequence[Operation], folder: Path) -> None:
    """Apply operations one by one; one that no longer fits its file, because of one before it, changes nothing."""
    for operation in operations:
        if operation["op"] == "reseal":
            reseal.reseal(folder)
            continue
        path = folder / operation["file"]
        if operation["op"] in FILES:
            FILES[operation["op"]](path, **_arguments(operation))
        elif path.is_file() and path.stat().st_size < raw.FAR:
            try:
                content = changed(path.read_bytes(), operation)
            except Exception:  # whatever it is, the operation does not fit the file any more
                continue
            path.write_bytes(content)


def changed(content: bytes, operation: Operation) -> bytes:
    """The content of a file after an operation on it; any exception where the operation does not fit."""
    return CHANGES[operation["op"]](content, **_arguments(operation))


def _arguments(operation: Operation) -> dict[str, Any]:
    return {name: value for name, value in operation.items() if name not in ("op", "file")}


def _missing(path: Path) -> None:
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)


def _folder(path: Path) -> None:
    _missing(path)
    path.mkdir()


def _link(path: Path) -> None:
    _missing(path)
    path.symlink_to("nowhere")


def _sparse(path: Path, size: int) -> None:
    if path.is_file():
        os.truncate(path, size)


FILES: dict[str, Callable[..., None]] = {"missing": _missing, "folder": _folder, "link": _link, "sparse": _sparse}
