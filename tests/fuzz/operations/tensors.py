"""Operations on safetensors files: on their header, and on tensors with a header that fits them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
from tests.fuzz.operations import raw, structure
from tests.fuzz.operations.raw import Operation

METADATA = "__metadata__"
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1}
NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "U64": "<u8"}
REALS = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e38, 1e-45, 65504.0)
WHOLE = (-1, 0, 1, 2, 127, 255, 10_000, 2**31 - 1, -(2**31), 2**32, 2**62, -(2**63), 2**63 - 1)


@dataclass(frozen=True)
class Entry:
    """One tensor of a file."""

    name: str
    dtype: str
    shape: list[int]
    data: bytes

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return len(self.data) // self.shape[0]


def header(content: bytes) -> tuple[bytes, bytes]:
    """The header of a file as JSON, and the bytes behind it."""
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end], content[end:]


def joined(head: bytes, rest: bytes) -> bytes:
    return len(head).to_bytes(8, "little") + head + rest


def read(content: bytes) -> tuple[Any, list[Entry]]:
    """The metadata (none where there are none) and the tensors of a file, in the order of their data."""
    head, rest = header(content)
    about = json.loads(head)
    texts = about.pop(METADATA, None)
    entries = [
        Entry(name, value["dtype"], value["shape"], rest[slice(*value["data_offsets"])])
        for name, value in sorted(about.items(), key=lambda item: item[1]["data_offsets"])
    ]
    return texts, entries


def written(texts: Any, entries: list[Entry]) -> bytes:
    """A file of these tensors, with a header that fits them."""
    about: list[tuple[str, Any]] = [] if texts is None else [(METADATA, structure.Pairs(texts.items()))]
    place = 0
    for entry in entries:
        offsets = [place, place + len(entry.data)]
        about.append((entry.name, structure.Pairs([("dtype", entry.dtype), ("shape", entry.shape), ("data_offsets", offsets)])))
        place = offsets[1]
    head = structure.dump(structure.Pairs(about)).encode()
    return joined(head + b" " * (-len(head) % 8), b"".join(entry.data for entry in entries))


def change_header(content: bytes, **arguments: Any) -> bytes:
    """The file with one node of its header altered."""
    head, rest = header(content)
    return joined(structure.change_json(head, **arguments), rest)


def change_tensor(content: bytes, name: str, do: str, **arguments: Any) -> bytes:
    """The file with one tensor altered, and a header that fits."""
    texts, entries = read(content)
    new: list[Entry] = []
    for entry in entries:
        new += ACTIONS[do](entry, **arguments) if entry.name == name else [entry]
    return written(texts, new)


def change_record(content: bytes, record: int, **arguments: Any) -> bytes:
    """The shard with the JSON of one record altered, and starts of records that fit."""
    texts, entries = read(content)
    found = {entry.name: entry for entry in entries}
    data, starts = found["records"].data, np.frombuffer(found["starts"].data, "<i8").copy()
    first, last = starts[record : record + 2].tolist()
    new = structure.change_json(data[first : last - 1], **arguments)
    starts[record + 1 :] += len(new) - (last - 1 - first)
    data = data[:first] + new + data[last - 1 :]
    changed = {
        "records": replace(found["records"], shape=[len(data)], data=data),
        "starts": replace(found["starts"], data=starts.tobytes()),
    }
    return written(texts, [changed.get(entry.name, entry) for entry in entries])


def _draw_record(random: Random, entries: Mapping[str, Entry]) -> Operation:
    starts = np.frombuffer(entries["starts"].data, "<i8")
    record = random.randrange(len(starts) - 1)
    return {"record": record, **structure.draw(random, entries["records"].data[starts[record] : starts[record + 1] - 1]), "op": "record"}


def _retyped(entry: Entry, dtype: str) -> list[Entry]:
    size = len(entry.data) // SIZES[dtype]
    rows = entry.shape[0] if entry.shape and size % entry.shape[0] == 0 else 1
    return [replace(entry, dtype=dtype, shape=[rows, size // rows], data=entry.data[: size * SIZES[dtype]])]


def _resized(entry: Entry, rows: int) -> list[Entry]:
    """So many rows: the first ones, or all of them again and again."""
    data = entry.data * -(-rows // max(entry.shape[0], 1))
    return [replace(entry, shape=[rows, *entry.shape[1:]], data=data[: rows * entry.row])]


def _copied(entry: Entry, row: int, to: int) -> list[Entry]:
    size = entry.row
    block = entry.data[row * size : (row + 1) * size]
    return [replace(entry, data=raw.write(entry.data, to * size, block.hex()))]


def _inside(entry: Entry, inner: Operation) -> list[Entry]:
    """An operation on bytes, or on the JSON, of a vector, whose length may change."""
    data = structure.change(entry.data, inner)
    return [replace(entry, shape=[len(data) // SIZES[entry.dtype]], data=data)]


ACTIONS: dict[str, Callable[..., list[Entry]]] = {
    "drop": lambda entry: [],
    "rename": lambda entry, to: [replace(entry, name=to)],
    "repeat": lambda entry, to: [entry, replace(entry, name=to)],
    "reshape": lambda entry, shape: [replace(entry, shape=shape)],
    "retype": _retyped,
    "resize": _resized,
    "copy row": _copied,
    "swap rows": lambda entry, row, to: [replace(entry, data=raw.swap(entry.data, row * entry.row, entry.row, to * entry.row))],
    "write": lambda entry, at, hex: [replace(entry, data=raw.write(entry.data, at, hex))],
    "fill": lambda entry, hex: [replace(entry, data=(bytes.fromhex(hex) * len(entry.data))[: len(entry.data)])],
    "inside": _inside,
}


def draw(random: Random, content: bytes) -> Operation:
    """One operation that fits the file: on its bytes, on its header, or on a tensor."""
    kind = random.random()
    if kind < 0.25:
        return raw.draw(random, content)
    if kind < 0.6:
        return {**structure.draw(random, header(content)[0]), "op": "header"}
    entries = {entry.name: entry for entry in read(content)[1]}
    if "starts" in entries and random.random() < 0.5:
        return _draw_record(random, entries)
    entry = random.choice(list(entries.values()))
    return {"op": "tensor", "name": entry.name, **draw_tensor(random, entry)}


def draw_tensor(random: Random, entry: Entry) -> Operation:
    """One operation on a tensor: some on its values, some on its shape, some on the bytes that it holds."""
    if entry.dtype == "U8" and entry.shape[1:] in ([], [1]) and random.random() < 0.8:
        inner = structure.draw(random, entry.data) if entry.data[:1] == b"[" or entry.name == "about" else raw.draw(random, entry.data)
        return {"do": "inside", "inner": inner}
    value, size = _value(random, entry.dtype), SIZES[entry.dtype]
    count = len(entry.data) // size
    draws: list[Callable[[], Operation]] = [
        lambda: {"do": "drop"},
        lambda: {"do": "rename", "to": random.choice(structure.TEXTS)},
        lambda: {"do": "repeat", "to": random.choice((f"{entry.name}.1", "x", "encoder.x", "optimizer.0.0.x"))},
        lambda: {"do": "retype", "dtype": random.choice(tuple(SIZES))},
        lambda: {"do": "reshape", "shape": random.choice(([count], [1, count], [count, 1], [*entry.shape, 1], entry.shape[::-1]))},
        lambda: {"do": "fill", "hex": value},
    ]
    if count:
        draws += [lambda: {"do": "write", "at": size * random.choice((0, count - 1, random.randrange(count))), "hex": value}] * 4
    if entry.shape and entry.shape[0]:
        rows = entry.shape[0]
        pair = {"row": random.randrange(rows), "to": random.randrange(rows)}
        draws += [lambda: {"do": "resize", "rows": random.choice((0, 1, rows - 1, rows + 1, 2 * rows))}] * 2
        draws += [lambda: {"do": random.choice(("copy row", "swap rows")), **pair}] * 2
    return random.choice(draws)()


def _value(random: Random, dtype: str) -> str:
    """Bytes of an element at which arithmetic or indexing goes wrong."""
    if dtype not in NUMPY:
        return random.choice(("ff" * 8, "00" * 8, "7f" * 8))[: 2 * SIZES[dtype]]
    kind = np.dtype(NUMPY[dtype])
    with np.errstate(over="ignore"):
        if kind.kind == "f":
            return np.array(random.choice(REALS)).astype(kind).tobytes().hex()
    return raw.to_hex(random.choice(WHOLE), kind.itemsize, little=True)
