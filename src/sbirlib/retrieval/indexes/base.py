"""Interface of all indexes: add, remove, search, save."""

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
from sbirlib.interfaces import Component
from sbirlib.retrieval.indexes.exhaustive import in_order
from sbirlib.retrieval.indexes.shards import FloatArray, Record, Value

FORMAT = 3
MANIFEST = "index.json"
Where = Mapping[str, Value | Sequence[Value]]
State = dict[str, Any]
INDEX_FILE = re.compile(
    r"\.?[a-z]+-[0-9a-f]{8}\.(safetensors|faiss)(\.\d+\.partial)?|\.index\.json\.\d+\.partial"
)  # names that new_name makes, and their partial files


def new_name(stem: str, suffix: str = "safetensors") -> str:
    """A new name for a file of an index, never used before."""
    return f"{stem}-{secrets.token_hex(4)}.{suffix}"


class Index(Component, ABC):
    """Maximum inner product search over photos, each with a vector [V]; a query of S vectors scores by the largest of S products.

    Each photo has an id, in the order of adding and never reused, and a record: its unique "path" and any other fields ("category", a
    date, an album), which filters use. `kind` is the index's name in the registry.
    """

    kind: ClassVar[str]
    origin: tuple[Path, str] | None = None  # the folder it was opened from or saved in, and the manifest there

    @abstractmethod
    def __len__(self) -> int:
        """The number of photos that a search can return."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """The length V of the vectors, 0 before the first photo."""

    @abstractmethod
    def add(self, vectors: Tensor, records: Sequence[Record]) -> None:
        """Add photos by their vectors [N, V], with a record each, all or none: a path that is in the index raises InputError."""

    @abstractmethod
    def remove(self, paths: Collection[str]) -> None:
        """Remove photos by path, all or none: an unknown path raises InputError."""

    @abstractmethod
    def search(self, queries: Tensor, k: int, where: Where | None = None) -> tuple[Tensor, Tensor]:
        """The k best photos of each query [Q, S, V] or [Q, V]: scores and ids [Q, min(k, matches)], best first, equal scores by id.

        `where` keeps photos whose fields have these values, or one of a list of values. An approximate index that finds fewer pads
        with id -1 and score -inf.
        """

    @abstractmethod
    def records(self, ids: Tensor) -> list[Record]:
        """The records of the photos with these ids [N]."""

    @abstractmethod
    def paths(self) -> list[str]:
        """The paths of all photos, in the order of adding."""

    @abstractmethod
    def write(self, folder: Path) -> State:
        """Write the new data into new files; return the state that `read` needs, with the names of all files under "files"."""

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, state: State) -> Self:
        """Read the index from the state that `write` returned."""

    def save(self, folder: str | Path, *, about: Mapping[str, Any] | None = None, files: Collection[str] = ()) -> None:
        """Save the index in a folder atomically: new files first, then the manifest that names them; a failure leaves the former index.

        `about` goes into the manifest; `files` names other files in the folder that belong to the index.
        """
        place = index_folder(folder)
        if self.origin and self.origin[0] == place.resolve() and _text(place) != self.origin[1]:
            raise InputError(f"{place} was changed by another process since it was opened here: open it again and repeat the change")
        state = self.write(place)
        text = json.dumps({"format": FORMAT, "kind": self.kind, "state": state, **(about or {})}, indent=1)
        with atomic_write(place / MANIFEST) as partial:
            partial.write_text(text, encoding="utf-8")
        self.origin = (place.resolve(), text)
        for old in place.iterdir():
            if INDEX_FILE.fullmatch(old.name) and old.name not in {*state["files"], *files}:
                with suppress(OSError):  # a later save tries again
                    shutil.rmtree(old) if old.is_dir() else old.unlink()

    def checked(self, vectors: Tensor, *, dims: tuple[int, ...]) -> FloatArray:
        """Vectors [N, V] or [Q, S, V], as `dims` allows, checked and as a contiguous float32 array of the same shape."""
        if vectors.ndim not in dims or vectors.numel() == 0:
            shape = " or ".join({2: "[N, V]", 3: "[Q, S, V]"}[d] for d in dims)
            raise InputError(f"vectors {shape} were expected, at least one, got {list(vectors.shape)}")
        if self.dim and vectors.shape[-1] != self.dim:
            raise InputError(f"this index holds vectors of {self.dim} numbers, got {vectors.shape[-1]}: use the encoder that made it")
        if not vectors.isfinite().all():
            raise InputError("a vector holds NaN or infinity: check the encoder's weights and the image")
        rows: FloatArray = np.ascontiguousarray(vectors.detach().cpu().float().numpy())
        return rows

    def check_search(self, k: int, where: Where | None, fields: Collection[str]) -> None:
        """Refuse k < 1, an empty index, and a filter on an unknown field."""
        if k < 1:
            raise InputError(f"k is how many photos to find, at least 1, got {k}")
        if len(self) == 0:
            raise InputError("the index is empty: add photos before searching")
        for field in where or {}:
            if field not in fields:
                raise InputError(f"no photo here has a field {field!r}{nearest(field, sorted(fields))}")


def check_records(records: Sequence[Record], count: int, paths: Collection[str]) -> None:
    """Refuse records that do not fit `count` vectors, or repeat a path, of their own or of the index's `paths`."""
    if len(records) != count:
        raise InputError(f"{count} vectors need as many records, got {len(records)}")
    earlier: set[Value] = set()
    for record in records:
        path = record.get("path")
        if not isinstance(path, str) or not path:
            raise InputError(f"a record needs a 'path', got {dict(record)}")
        if path in earlier or path in paths:
            raise InputError(f"{path!r} is in the index already: remove it first, or leave it out")
        for field, value in record.items():
            if not isinstance(value, str | int | float | bool | None):
                raise InputError(
                    f"field {field!r} of {path!r} is a {type(value).__name__}: a field is text, a number, true, false or nothing"
                )
        earlier.add(path)


def merged(scores: FloatArray, ids: Any, k: int) -> tuple[Tensor, Tensor]:
    """The k best results of each query from scores and ids [Q, n]: best first, equal scores by id, each id once, -1 last."""
    scores, ids = in_order(scores, ids)
    duplicate = repeated(ids)
    if duplicate.any():
        scores, ids = np.where(duplicate, np.float32(-np.inf), scores), np.where(duplicate, -1, ids)
        order = np.argsort(-scores, axis=1, kind="stable")
        scores, ids = np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
    return torch.from_numpy(scores[:, :k].copy()), torch.from_numpy(ids[:, :k].copy())


def repeated(ids: Any) -> Any:
    """The mask [Q, n] of ids [Q, n] that occur earlier in their row."""
    order = ids.argsort(axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, 1)
    mask = np.zeros(ids.shape, dtype=np.bool_)
    np.put_along_axis(mask, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    return mask


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a saved index."""
    text = _text(Path(folder))
    if text is None:
        raise InputError(f"{folder} is not an index: it holds no {MANIFEST}; make one with `sbirlib index MODEL PHOTOS --out FOLDER`")
    try:
        content: dict[str, Any] = json.loads(text)
        version = content["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{str(Path(folder) / MANIFEST)!r} is damaged ({error!r}); index the photos again") from error
    if version != FORMAT:
        raise InputError(f"{folder} is an index of format {version}, this version of sbirlib reads {FORMAT}: index the photos again")
    return content


def read_index(folder: str | Path) -> Index:
    """Read the index, of any kind, that was saved in a folder."""
    place = Path(folder)
    manifest = read_manifest(place)
    kind: Any = registry.load("index", manifest["kind"])
    index: Index = kind.read(place, manifest["state"])
    index.origin = (place.resolve(), _text(place) or "")
    return index


def _text(place: Path) -> str | None:
    path = place / MANIFEST
    return path.read_text(encoding="utf-8") if path.is_file() else None


def index_folder(folder: str | Path) -> Path:
    """The folder for an index, created if missing: refused unless empty, or with an index or the files of an interrupted first save."""
    place = Path(folder)
    if place.is_dir() and not (place / MANIFEST).is_file() and not all(INDEX_FILE.fullmatch(file.name) for file in place.iterdir()):
        raise InputError(f"{place} is there and is not an index: choose another folder")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"no index can be saved in {place} ({error.strerror}): choose a folder where you may write") from error
    return place
