"""Sketch search: an index of photo vectors with the encoder that turns a sketch into a query."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import images
from sbirlib.data.images import open_image
from sbirlib.data.packed import member
from sbirlib.device import find_device
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoder, Transform
from sbirlib.processes import rank
from sbirlib.retrieval.encode import encode
from sbirlib.retrieval.indexes.base import Index, Where, new_name
from sbirlib.retrieval.indexes.shards import Record, Value
from sbirlib.visual.grid import retrieval_grid

logger = logging.getLogger(__name__)
POSITION = "sbirlib position"  # key in an image's `info`


class PhotoGone(InputError):
    """A photo that is in an index and no longer where it was."""


@dataclass(frozen=True)
class Hit:
    """One retrieved photo: its rank from 1, its score (larger is nearer), and its record."""

    rank: int
    score: float
    record: Record

    @property
    def path(self) -> str:
        """The path of the photo, as it was indexed."""
        return str(self.record["path"])

    @property
    def category(self) -> Value:
        """The category of the photo, or None."""
        return self.record.get("category")


class SearchIndex:
    """An index that is searched with sketches; made by `Pipeline.index`, opened by `open_index`.

    `index` holds the vectors and the records of the photos, `digest` identifies the encoder, and `export` writes it to a file.

    >>> search_index = pipeline.index("photos", progress=False)
    >>> [(hit.rank, hit.path) for hit in search_index.search("sketch.png", k=2)]
    [(1, '...photos/.../....png'), (2, '...photos/.../....png')]
    """

    def __init__(
        self,
        encoder: Encoder,
        transform: Transform,
        index: Index,
        *,
        digest: str,
        export: Callable[[Path], None],
        model: str | None = None,
    ) -> None:
        self.encoder, self.transform, self.index, self.digest, self.export = encoder, transform, index, digest, export
        self._model = model  # the encoder's file in the folder the index was opened from or saved in
        self._openers: dict[str, Callable[[], Image.Image]] = {}  # of photos without a file

    def __len__(self) -> int:
        return len(self.index)

    def add(
        self,
        photos: Any,
        *,
        fields: Mapping[str, Mapping[str, Value]] | None = None,
        vectors: Tensor | None = None,
        device: str | None = None,
        progress: bool = True,
    ) -> None:
        """Add photos: a dataset, a folder, or a list of paths and PIL images. `fields` gives more fields of each, by path, for filters.

        `vectors` [N, V], if they are known already, are those of the photos in order.
        """
        dataset = (photos if isinstance(photos, Dataset) else images(photos)).photos
        entries = records(dataset, fields)
        if vectors is None:
            vectors = encode(self.encoder, dataset, self.transform, side="gallery", device=find_device(device), progress=progress).vectors
        self.index.add(vectors, entries)
        for i, record in enumerate(entries):
            path = str(record["path"])
            if not Path(path).is_file():
                self._openers[path] = lambda i=i: dataset.read(i)  # type: ignore[misc]

    def remove(self, paths: Collection[str]) -> None:
        """Remove photos by path, absolute as a search gives it or relative, all or none: an unknown path raises InputError."""
        try:
            self.index.remove(paths)
        except InputError:
            self.index.remove([os.path.abspath(path) for path in paths])

    def search(self, sketch: Any, k: int = 10, where: Where | None = None) -> list[Hit]:
        """The k best photos for one sketch (a path or a PIL image), best first; `where` filters, as in where={"category": ["cat", "dog"]}."""
        return self.search_all([sketch], k, where)[0]

    def search_all(self, sketches: Any, k: int = 10, where: Where | None = None, *, device: str | None = None) -> list[list[Hit]]:
        """The k best photos for each sketch of a dataset, a folder, or a list of paths and PIL images; a blank sketch is logged as a warning.

        Sketches are encoded on `device`, the GPU if there is one.
        """
        dataset = _sketches(sketches)
        transform = _BlankCheck(self.transform)
        numbered = replace(dataset, reader=_Numbered(dataset.reader, dataset.threads))
        vectors = encode(self.encoder, numbered, transform, side="query", device=find_device(device)).vectors
        for i, position in enumerate(dataset.index.tolist()):
            if position in transform.blank:
                logger.warning("the sketch %s is blank, so its hits mean nothing: draw dark lines on a light sheet", dataset.path(i))
        return self.search_vectors(vectors, k, where)

    def search_vectors(self, queries: Tensor, k: int = 10, where: Where | None = None) -> list[list[Hit]]:
        """The k best photos for query vectors [Q, S, V']."""
        scores, ids = self.index.search(queries, k, where)
        entries = iter(self.index.records(ids[ids >= 0]))  # of all queries at once, because a server answers each call with a delay
        rows = (score[row >= 0].tolist() for score, row in zip(scores, ids, strict=True))
        return [[Hit(rank, score, next(entries)) for rank, score in enumerate(row, 1)] for row in rows]

    def grid(self, sketches: Any, categories: Sequence[str | None] | None = None, k: int = 10, where: Where | None = None) -> Image.Image:
        """Search, and draw a row for each sketch with its k best photos, framed green or red where `categories` gives the right answer."""
        dataset = decoded_once(_sketches(sketches))
        return self.picture(dataset, self.search_all(dataset, k, where), categories)

    def picture(self, sketches: Any, hits: Sequence[Sequence[Hit]], categories: Sequence[str | None] | None = None) -> Image.Image:
        """Draw the hits of a search: a row for each sketch, as in `grid`."""
        dataset = _sketches(sketches)
        titles = list(categories) if categories is not None else [None] * len(dataset)
        correct = [
            [None if name is None or h.category is None else h.category == name for h in row]
            for name, row in zip(titles, hits, strict=True)
        ]
        return retrieval_grid(
            [dataset.read(i) for i in range(len(dataset))],
            [[self.photo(hit.path) for hit in row] for row in hits],
            correct,
            titles=[name or "" for name in titles],
        )

    def save(self, folder: str | Path) -> None:
        """Save vectors, records and the encoder as one folder; after a failure, or a kill, the folder is as it was before.

        Of several processes rank 0 writes.
        """
        if rank() > 0:
            return
        here = self.index.origin is not None and self.index.origin[0] == Path(folder).resolve()
        model = self._model if here and self._model else new_name("model")
        attached = {model: None if here and model == self._model else self.export}
        self.index.save(folder, about={"encoder": self.digest, "model": model}, attached=attached)
        self._model = model

    def photo(self, path: str) -> Image.Image:
        """The photo of that path in the index; raises PhotoGone, an InputError, where its file is no longer there."""
        if path in self._openers:
            return self._openers[path]()
        if (photo := member(path)) is not None:
            return photo
        if not Path(path).is_file():
            raise PhotoGone(f"{path} is in the index but no longer there: put it back, or let the index forget it with `sbirlib remove`")
        return open_image(path, max_pixels=sys.maxsize)  # the limit was checked when the photo was added


def records(photos: Dataset, fields: Mapping[str, Mapping[str, Value]] | None = None) -> list[Record]:
    """The record of each photo: its path, its category if it has one, and its `fields`, given by path or by the dataset's own key."""
    more = dict(fields or {})
    entries: list[Record] = []
    for i in range(len(photos)):
        category = {"category": photos.categories[photos.category[i]]} if photos.category[i] >= 0 else {}
        extra = {**more.pop(photos.key(i), {}), **more.pop(photos.path(i), {})}
        entries.append({"path": photos.path(i), **category, **extra})
    if more:
        raise InputError(f"fields are given for {next(iter(more))!r}, which is none of the {len(photos)} photos")
    return entries


def decoded_once(sketches: Dataset, count: int | None = None) -> Dataset:
    """The same dataset, with its first `count` images (all, by default) kept in memory once they have been decoded."""
    positions = frozenset(sketches.index[:count].tolist())
    return replace(sketches, reader=_DecodedOnce(sketches.reader, sketches.threads, positions))


def _sketches(source: Any) -> Dataset:
    if isinstance(source, Dataset):
        return source.sketches
    return images(source if isinstance(source, str | Path) else list(source), modality="sketch")


@dataclass(frozen=True)
class _DecodedOnce:
    """Reader that keeps the decoded images of `positions`."""

    reader: Callable[[int], Image.Image]
    threads: int
    positions: frozenset[int]
    decoded: dict[int, Image.Image] = field(default_factory=dict)

    def __call__(self, position: int) -> Image.Image:
        image = self.decoded[position] if position in self.decoded else self.reader(position)
        if position in self.positions:
            self.decoded[position] = image
        return image


@dataclass(frozen=True)
class _Numbered:
    """Reader whose images carry their position, so that a transform can tell which image it prepares."""

    reader: Callable[[int], Image.Image]
    threads: int

    def __call__(self, position: int) -> Image.Image:
        image = self.reader(position).copy()  # the image may be the caller's, and may be in the list twice
        image.info[POSITION] = position
        return image


class _BlankCheck:
    """Transform that records in `blank` the positions of images without ink: those of which all prepared pixels are equal."""

    def __init__(self, transform: Transform) -> None:
        self.transform, self.size = transform, transform.size
        self.blank: set[int] = set()

    def prepare(self, image: Image.Image, modality: int) -> Tensor:
        """The prepared image, uint8 [3, S, S]."""
        pixels = self.transform.prepare(image, modality)
        if bool(pixels.min() == pixels.max()):
            self.blank.add(image.info[POSITION])
        return pixels

    def augment(self, image: Tensor, modality: int) -> Tensor:
        """The augmented image, uint8 [3, S, S]."""
        return self.transform.augment(image, modality)
