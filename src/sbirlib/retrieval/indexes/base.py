"""What every index promises, whatever holds its vectors."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from sbirlib import registry
from sbirlib.errors import InputError, nearest
from sbirlib.files import atomic_write
from sbirlib.retrieval.indexes.exhaustive import in_order
from sbirlib.retrieval.indexes.shards import FloatArray, Record, Value

FORMAT = 2
MANIFEST = "index.json"
Where = Mapping[str, Value | Sequence[Value]]
State = dict[str, Any]
OURS = re.compile(
    r"\.?[a-z]+-[0-9a-f]{8}\.(safetensors|faiss)(\.\d+\.partial)?|\.index\.json\.\d+\.partial"
)  # new_name's names, and those half written


def new_name(stem: str, suffix: str = "safetensors") -> str:
    """A name that no file of an index has had."""
    return f"{stem}-{secrets.token_hex(4)}.{suffix}"


class Index(ABC):
    """Photos by their vectors [V], found by the largest inner product, the largest of S for a query of S vectors.

    Each photo has an id, given in the order of adding and never given again, and a record: its unique "path" and any other fields
    ("category", a date, an album), by which a search can be narrowed. `kind` is the index's name in the registry.
    """

    kind: ClassVar[str]
    seen: tuple[Path, str] | None = None  # the folder it was opened from or saved in, and the manifest there

    @abstractmethod
    def __len__(self) -> int:
        """How many photos can be found."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """V, or 0 before the first photo."""

    @abstractmethod
    def add(self, vectors: Tensor, records: Sequence[Record]) -> None:
        """Take in vectors [n, V] with a record each; a path that is already there is an error, and then nothing is taken in."""

    @abstractmethod
    def remove(self, paths: Collection[str]) -> None:
        """Let photos no longer be found; a path that is not there is an error, and then nothing is removed."""

    @abstractmethod
    def search(self, queries: Tensor, k: int, where: Where | None = None) -> tuple[Tensor, Tensor]:
        """The k best photos of each query [Q, S, V] or [Q, V]: scores and ids [Q, min(k, matching)], best first, equals by id.

        `where` keeps photos whose fields have these values, or one of a list of them. An approximate index that found fewer fills up
        with id -1 and score -inf.
        """

    @abstractmethod
    def records(self, ids: Tensor) -> list[Record]:
        """The records of photos [n] by id."""

    @abstractmethod
    def paths(self) -> list[str]:
        """All photos that can be found, by path, in the order of adding."""

    @abstractmethod
    def write(self, folder: Path) -> State:
        """Write what is not in the folder yet into new files; return what `read` needs, with the names of all files under "files"."""

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, state: State) -> Self:
        """The index that `write` described."""

    def save(self, folder: str | Path, *, about: Mapping[str, Any] | None = None, files: Collection[str] = ()) -> None:
        """Make the folder hold this index, or on any failure what it held before: new files first, then the manifest that names them.

        `about` goes into the manifest; `files`, which lie in the folder already, belong to it too.
        """
        place = own_folder(folder)
        if self.seen and self.seen[0] == place.resolve() and _text(place) != self.seen[1]:
            raise InputError(f"{place} was changed by another process since it was opened here: open it again and repeat the change")
        state = self.write(place)
        text = json.dumps({"format": FORMAT, "kind": self.kind, "state": state, **(about or {})}, indent=1)
        with atomic_write(place / MANIFEST) as partial:
            partial.write_text(text, encoding="utf-8")
        self.seen = (place.resolve(), text)
        for left in place.iterdir():
            if OURS.fullmatch(left.name) and left.name not in {*state["files"], *files}:
                with suppress(OSError):  # what cannot be removed now goes with a later save
                    shutil.rmtree(left) if left.is_dir() else left.unlink()

    def vectors(self, given: Tensor, *, dims: tuple[int, ...]) -> FloatArray:
        """Vectors as an index takes them, checked."""
        if given.ndim not in dims or given.numel() == 0:
            shape = " or ".join({2: "[n, V]", 3: "[Q, S, V]"}[d] for d in dims)
            raise InputError(f"vectors {shape} were expected, at least one, got {list(given.shape)}")
        if self.dim and given.shape[-1] != self.dim:
            raise InputError(f"this index holds vectors of {self.dim} numbers, got {given.shape[-1]}: use the encoder that made it")
        if not given.isfinite().all():
            raise InputError("a vector holds NaN or infinity: check the encoder's weights and the image")
        rows: FloatArray = np.ascontiguousarray(given.detach().cpu().float().numpy())
        return rows

    def check_search(self, k: int, where: Where | None, fields: Collection[str]) -> None:
        """Refuse what no index can answer."""
        if k < 1:
            raise InputError(f"k is how many photos to find, at least 1, got {k}")
        if len(self) == 0:
            raise InputError("the index is empty: add photos before searching")
        for field in where or {}:
            if field not in fields:
                raise InputError(f"no photo here has a field {field!r}{nearest(field, sorted(fields))}")


def check_records(records: Sequence[Record], count: int, known: Collection[str]) -> None:
    """Refuse records that do not fit `count` vectors, or name a photo twice."""
    if len(records) != count:
        raise InputError(f"{count} vectors need as many records, got {len(records)}")
    seen: set[Value] = set()
    for record in records:
        path = record.get("path")
        if not isinstance(path, str) or not path:
            raise InputError(f"a record needs a 'path', got {dict(record)}")
        if path in seen or path in known:
            raise InputError(f"{path!r} is in the index already: remove it first, or leave it out")
        for field, value in record.items():
            if not isinstance(value, str | int | float | bool | None):
                raise InputError(
                    f"field {field!r} of {path!r} is a {type(value).__name__}: a field is text, a number, true, false or nothing"
                )
        seen.add(path)


def merged(scores: FloatArray, ids: Any, k: int) -> tuple[Tensor, Tensor]:
    """The k best of what was found for each query, [Q, n] each: best first, equals by id, each id once, -1 last."""
    scores, ids = in_order(scores, ids)
    again = repeated(ids)
    if again.any():
        scores, ids = np.where(again, np.float32(-np.inf), scores), np.where(again, -1, ids)
        order = np.argsort(-scores, axis=1, kind="stable")
        scores, ids = np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
    return torch.from_numpy(scores[:, :k].copy()), torch.from_numpy(ids[:, :k].copy())


def repeated(ids: Any) -> Any:
    """Whether an id has come before in its line."""
    order = ids.argsort(axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, 1)
    seen = np.zeros(ids.shape, dtype=np.bool_)
    np.put_along_axis(seen, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    return seen


def manifest(folder: str | Path) -> dict[str, Any]:
    """What a saved index says of itself."""
    text = _text(Path(folder))
    if text is None:
        raise InputError(f"{folder} is not an index: it holds no {MANIFEST}; make one with `sbirlib index MODEL PHOTOS --out FOLDER`")
    try:
        found: dict[str, Any] = json.loads(text)
        version = found["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{str(Path(folder) / MANIFEST)!r} is damaged ({error!r}); index the photos again") from error
    if version != FORMAT:
        raise InputError(f"{folder} is an index of format {version}, this version of sbirlib reads {FORMAT}: index the photos again")
    return found


def open_vectors(folder: str | Path) -> Index:
    """The index that was saved in a folder, whatever its kind."""
    place = Path(folder)
    found = manifest(place)
    made: Any = registry.load("index", found["kind"])
    opened: Index = made.read(place, found["state"])
    opened.seen = (place.resolve(), _text(place) or "")
    return opened


def _text(place: Path) -> str | None:
    path = place / MANIFEST
    return path.read_text(encoding="utf-8") if path.is_file() else None


def own_folder(folder: str | Path) -> Path:
    """A folder for an index, made if need be: it is new, empty, or holds an index or what a killed first save left of one."""
    place = Path(folder)
    if place.is_dir() and not (place / MANIFEST).is_file() and not all(OURS.fullmatch(left.name) for left in place.iterdir()):
        raise InputError(f"{place} is there and is not an index: choose another folder")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"no index can be saved in {place} ({error.strerror}): choose a folder where you may write") from error
    return place
