"""Interface of all indexes: add, remove, search, save."""

from __future__ import annotations

import math
import re
import secrets
import shutil
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from sbirlib import registry
from sbirlib.errors import InputError
from sbirlib.files import locked
from sbirlib.interfaces import Component
from sbirlib.retrieval.indexes.exhaustive import in_order
from sbirlib.retrieval.indexes.manifest import MANIFEST, check_files, manifest_of, text_of, write_manifest
from sbirlib.retrieval.indexes.shards import FloatArray, Record, Value

Where = Mapping[str, Value | Sequence[Value]]
State = dict[str, Any]
PARTIAL = r"\.\d+(\.[a-z0-9_]+)?\.partial"
INDEX_FILE = re.compile(
    rf"\.?[a-z]+-[0-9a-f]{{8}}\.(safetensors|faiss)({PARTIAL})?|\.index\.json{PARTIAL}"
)  # names of new_name, and partial files


class UnknownField(InputError):
    """A filter by a field that no photo has."""


def new_name(stem: str) -> str:
    """A new name for a file of an index, never used before."""
    return f"{stem}-{secrets.token_hex(4)}.safetensors"


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
    def count(self, where: Where | None = None) -> int:
        """The number of photos that pass a filter, as in `search`."""

    @abstractmethod
    def records(self, ids: Tensor) -> list[Record]:
        """The records of the photos with these ids [N]; an id of no photo raises InputError."""

    @abstractmethod
    def all_records(self) -> Iterator[Record]:
        """The records of all photos, in the order of adding."""

    @abstractmethod
    def vectors(self, paths: Sequence[str]) -> Tensor:
        """The vectors [N, V] of photos by path; an unknown path raises InputError."""

    def paths(self) -> list[str]:
        """The paths of all photos, in the order of adding."""
        return [str(record["path"]) for record in self.all_records()]

    def fields(self, *, most: int = 10_000) -> dict[str, Counter[Value]]:
        """The values of each field but the path, with the number of photos that have them; a field of more than `most` values is left out."""
        counts: defaultdict[str, Counter[Value]] = defaultdict(Counter)
        for record in self.all_records():
            for field, value in record.items():
                if field != "path" and len(counts[field]) <= most:
                    counts[field][value] += 1
        return {field: values for field, values in counts.items() if len(values) <= most}

    @abstractmethod
    def write(self, folder: Path) -> State:
        """Write the new data into new files; return the state that `read` needs, with the names of all files under "files"."""

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, state: State) -> Self:
        """Read the index from the state that `write` returned. Anyone may have written it: InputError where it does not fit."""

    def save(
        self,
        folder: str | Path,
        *,
        about: Mapping[str, Any] | None = None,
        attached: Mapping[str, Callable[[Path], None] | None] | None = None,
    ) -> None:
        """Save the index in a folder atomically: new files first, then the manifest that names them; a failure leaves the former index.

        `about` goes into the manifest; `attached` are other files of the index by name, each with its writer, or None where it is there.
        Of two processes that change one saved index, the later is told.
        """
        place = index_folder(folder)
        with locked(place):
            if self.origin and self.origin[0] == place.resolve() and text_of(place) != self.origin[1]:
                raise InputError(f"{place} was changed by another process since it was opened here: open it again and repeat the change")
            for name, write in (attached or {}).items():
                if write is not None:
                    write(place / name)
            state = self.write(place)
            files = [*state.pop("files"), *(attached or {})]
            text = write_manifest(place, {"kind": self.kind, "state": state, **(about or {})}, files)
            self.origin = (place.resolve(), text)
            _sweep(place, files)

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

    def check_search(self, k: int) -> None:
        """Refuse k < 1, and an empty index."""
        if k < 1:
            raise InputError(f"k is how many photos to find, at least 1, got {k}")
        if len(self) == 0:
            raise InputError("the index is empty: add photos before searching")


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
            if not isinstance(value, str | int | float | bool | None) or (isinstance(value, float) and not math.isfinite(value)):
                raise InputError(
                    f"field {field!r} of {path!r} is a {type(value).__name__}: a field is text, a finite number, true, false or nothing"
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


def read_index(folder: str | Path, *, verify: bool | None = None) -> Index:
    """Read the index, of any kind, that was saved in a folder.

    Lengths of files and what they say of their digests are checked; their content too where `verify`, or where all of them are small.
    """
    place = Path(folder)
    text = text_of(place)
    try:
        return _read(place, text, verify)
    except InputError:
        if text_of(place) == text:
            raise
        return read_index(folder, verify=verify)  # another process has saved meanwhile, and removed the former files


def _read(place: Path, text: str | None, verify: bool | None) -> Index:
    manifest = manifest_of(text, place)
    check_files(place, manifest, verify=verify)
    kind: Any = registry.load("index", manifest.kind)
    try:
        index: Index = kind.read(place, {**manifest.state, "files": [*manifest.files]})
    except InputError as error:
        raise InputError(f"{str(place / MANIFEST)!r}: {error}") from error
    index.origin = (place.resolve(), text or "")
    return index


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


def _sweep(place: Path, files: Collection[str]) -> None:
    """Remove the files of an index that is no more, and those that killed processes left."""
    for old in place.iterdir():
        if INDEX_FILE.fullmatch(old.name) and old.name not in files:
            with suppress(OSError):  # a later save tries again
                shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
