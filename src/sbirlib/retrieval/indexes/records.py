"""Records of photos as they lie in a shard: JSON objects one after another, read one by one or all at once, and held to their types."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter

from sbirlib.documents import read_json
from sbirlib.errors import InputError

Value = str | int | float | bool | None
Record = Mapping[str, Value]  # of a photo: its path, its category, and any other fields
STRICT = ConfigDict(allow_inf_nan=False)
ONE: TypeAdapter[dict[str, Value]] = TypeAdapter(dict[str, Value], config=STRICT)
MANY: TypeAdapter[list[dict[str, Value]]] = TypeAdapter(list[dict[str, Value]], config=STRICT)


@dataclass(frozen=True)
class Records(Sequence[Record]):
    """Records as uint8 [B], joined by commas, of which record i begins at starts[i]; starts are int64 [N + 1]. `source` is their file."""

    text: NDArray[np.uint8]
    starts: NDArray[np.int64]
    source: str

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Record]: ...

    def __getitem__(self, place: int | slice) -> Record | Sequence[Record]:
        if isinstance(place, slice):
            start, stop, _ = place.indices(len(self))
            return Records(self.text, self.starts[start : stop + 1], self.source)
        if not 0 <= place < len(self):
            raise IndexError(place)
        record = read_json(self._slice(place, place + 1), ONE, self._where(place))
        return _with_path(record, self._where(place))

    def __iter__(self) -> Iterator[Record]:
        """All records, parsed at once."""
        table = read_json(b"[" + self._slice(0, len(self)) + b"]", MANY, f"{self.source!r}, records")
        if len(table) != len(self):
            raise InputError(f"{self.source!r} is damaged: it holds {len(table)} records, expected {len(self)}")
        return (_with_path(record, self._where(place)) for place, record in enumerate(table))

    def _slice(self, first: int, last: int) -> bytes:
        return self.text[self.starts[first] : self.starts[last] - 1].tobytes()

    def _where(self, place: int) -> str:
        return f"{self.source!r}, record {place}"


def packed(records: Sequence[Record]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Records as the text [B] and the starts [N + 1] of Records."""
    texts = [json.dumps(dict(record), separators=(",", ":")).encode() for record in records]
    starts = np.concatenate([[0], np.cumsum([len(text) + 1 for text in texts])]).astype(np.int64)
    return np.frombuffer(b"".join(text + b"," for text in texts), dtype=np.uint8), starts


def unpacked(text: Any, starts: Any, source: str) -> Records:
    """The records of a shard, from arrays of a file that anyone may have written."""
    sound = text.ndim == starts.ndim == 1 and text.dtype == np.uint8 and starts.dtype == np.int64 and len(starts) > 0
    if not (sound and starts[0] == 0 and starts[-1] == len(text) and (np.diff(starts) > 2).all()):
        raise InputError(f"{source!r} is damaged: its records do not add up; make it again")
    return Records(text, starts, source)


def _with_path(record: Record, where: str) -> Record:
    if not isinstance(record.get("path"), str) or not record["path"]:
        raise InputError(f"{where} is damaged: it has no path")
    return record
