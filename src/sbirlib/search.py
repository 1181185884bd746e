"""Draw to search: vectors of photos, and the encoder that turns a sketch into a query."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import images
from sbirlib.data.images import open_image
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoder, Transform
from sbirlib.retrieval.encode import encode
from sbirlib.retrieval.indexes.base import Index, Where, index_folder, new_name
from sbirlib.retrieval.indexes.shards import Record, Value
from sbirlib.visual.grid import retrieval_grid


@dataclass(frozen=True)
class Hit:
    """One photo found: its rank from 1, its score (larger is nearer), and its record."""

    rank: int
    score: float
    record: Record

    @property
    def path(self) -> str:
        return str(self.record["path"])

    @property
    def category(self) -> Value:
        """Where it is known."""
        return self.record.get("category")


class SearchIndex:
    """Made by `Pipeline.index`, opened again by `open_index`. `digest` is the encoder's own, `export` writes it to a file."""

    def __init__(
        self,
        encoder: Encoder,
        transform: Transform,
        vectors: Index,
        *,
        digest: str,
        export: Callable[[Path], None],
        model: str | None = None,
    ) -> None:
        self.encoder, self.transform, self.vectors, self.digest, self.export = encoder, transform, vectors, digest, export
        self._model = model  # the encoder's file in the folder the index was opened from or saved in
        self._openers: dict[str, Callable[[], Image.Image]] = {}  # of photos that are no files

    def __len__(self) -> int:
        return len(self.vectors)

    def add(
        self,
        photos: Any,
        *,
        fields: Mapping[str, Mapping[str, Value]] | None = None,
        vectors: Tensor | None = None,
        device: str = "cpu",
        progress: bool = True,
    ) -> None:
        """Take in photos: a dataset, a folder, or a list of paths and PIL images. `fields` has more of each, by path, to filter by.

        `vectors` [n, V] are those of the photos where they are known already.
        """
        dataset = (photos if isinstance(photos, Dataset) else images(photos)).photos
        found = records(dataset, fields)
        if vectors is None:
            vectors = encode(self.encoder, dataset, self.transform, side="gallery", device=device, progress=progress).vectors
        self.vectors.add(vectors, found)
        for i, record in enumerate(found):
            path = str(record["path"])
            if not Path(path).is_file():
                self._openers[path] = lambda i=i: dataset.read(i)  # type: ignore[misc]

    def remove(self, paths: Collection[str]) -> None:
        """Let photos no longer be found."""
        self.vectors.remove(paths)

    def search(self, sketch: Any, k: int = 10, where: Where | None = None) -> list[Hit]:
        """The k best photos for one sketch (a path or a PIL image), best first; `where` narrows, as in where={"category": ["cat", "dog"]}."""
        return self.search_all([sketch], k, where)[0]

    def search_all(self, sketches: Sequence[Any], k: int = 10, where: Where | None = None) -> list[list[Hit]]:
        """The k best photos for each sketch."""
        vectors = encode(self.encoder, images(list(sketches), modality="sketch"), self.transform, side="query").vectors
        return self.search_vectors(vectors, k, where)

    def search_vectors(self, queries: Tensor, k: int = 10, where: Where | None = None) -> list[list[Hit]]:
        """The k best photos for query vectors [Q, S, V']."""
        scores, ids = self.vectors.search(queries, k, where)
        known = iter(self.vectors.records(ids[ids >= 0]))  # of all queries at once: a server answers once
        found = (score[row >= 0].tolist() for score, row in zip(scores, ids, strict=True))
        return [[Hit(rank, score, next(known)) for rank, score in enumerate(best, 1)] for best in found]

    def grid(
        self, sketches: Sequence[Any], categories: Sequence[str | None] | None = None, k: int = 10, where: Where | None = None
    ) -> Image.Image:
        """A picture: a row a sketch with its k best photos, framed green where `categories` says they are right, red where wrong."""
        return self.picture(sketches, self.search_all(sketches, k, where), categories)

    def picture(
        self, sketches: Sequence[Any], hits: Sequence[Sequence[Hit]], categories: Sequence[str | None] | None = None
    ) -> Image.Image:
        """The grid of what was found."""
        wanted = list(categories) if categories is not None else [None] * len(sketches)
        right = [
            [None if name is None or h.category is None else h.category == name for h in found]
            for name, found in zip(wanted, hits, strict=True)
        ]
        drawings = images(list(sketches), modality="sketch")
        return retrieval_grid(
            [drawings.read(i) for i in range(len(drawings))],
            [[self._photo(hit.path) for hit in found] for found in hits],
            right,
            titles=[name or "" for name in wanted],
        )

    def save(self, folder: str | Path) -> None:
        """Vectors, records and the encoder, as one folder: after a failure, or a kill, it holds what it held before."""
        place = index_folder(folder)
        here = self.vectors.origin is not None and self.vectors.origin[0] == place.resolve()
        model = self._model if here and self._model else new_name("model")
        if model != self._model or not here:
            self.export(place / model)
        self.vectors.save(place, about={"encoder": self.digest, "model": model}, files=[model])
        self._model = model

    def _photo(self, path: str) -> Image.Image:
        if path in self._openers:
            return self._openers[path]()
        if not Path(path).is_file():
            raise InputError(f"{path} is in the index but no longer there: put it back, or let the index forget it with `sbirlib remove`")
        return open_image(path)


def records(photos: Dataset, fields: Mapping[str, Mapping[str, Value]] | None = None) -> list[Record]:
    """What is known of each photo: its path, its category where there is one, and `fields` by path or by the dataset's own key."""
    more = dict(fields or {})
    found: list[Record] = []
    for i in range(len(photos)):
        category = {"category": photos.categories[photos.category[i]]} if photos.category[i] >= 0 else {}
        extra = {**more.pop(photos.key(i), {}), **more.pop(photos.path(i), {})}
        found.append({"path": photos.path(i), **category, **extra})
    if more:
        raise InputError(f"fields are given for {next(iter(more))!r}, which is none of the {len(photos)} photos")
    return found
