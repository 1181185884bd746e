"""Sketch search: an index of photo vectors with the encoder that turns a sketch into a query."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import images
from sbirlib.data.images import MAX_PIXELS, MaxPixels, Skipped, good_images, open_image
from sbirlib.data.packed import member
from sbirlib.data.readers import BlankCheck, DecodedOnce, Numbered
from sbirlib.device import find_device
from sbirlib.errors import InputError
from sbirlib.hits import Hit, Hits
from sbirlib.interfaces import Encoder, Transform
from sbirlib.phase import Expansion
from sbirlib.processes import rank
from sbirlib.retrieval.encode import encode
from sbirlib.retrieval.expansion import expanded
from sbirlib.retrieval.indexes.base import Index, Where, new_name
from sbirlib.retrieval.indexes.shards import Record, Value
from sbirlib.sync.changes import Changes, compare
from sbirlib.sync.intake import Intake, check_name
from sbirlib.sync.replacement import renewed, replacement
from sbirlib.sync.source import STEM, Source, read_sources, write_sources
from sbirlib.visual.grid import retrieval_grid

logger = logging.getLogger(__name__)
ROWS = 8192  # photos that are encoded between two saves


class PhotoGone(InputError):
    """A photo that is in an index and no longer where it was."""


class SearchIndex:
    """An index that is searched with sketches; made by `Pipeline.index`, opened by `open_index`.

    `index` holds the vectors and the records of the photos, `digest` identifies the encoder, and `export` writes it to a file. `stroke_width` is
    that of the encoder's training sketches, as a share of the drawing's side, where it is known. `expansion` is that of the recipe: queries are
    expanded in the index.

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
        stroke_width: float | None = None,
        expansion: Expansion | None = None,
        model: str | None = None,
        sources: str | None = None,
    ) -> None:
        self.encoder, self.transform, self.index, self.digest, self.export = encoder, transform, index, digest, export
        self.stroke_width, self.expansion = stroke_width, expansion
        self._model = model  # the encoder's file in the folder the index was opened from or saved in
        self._sources_file = sources  # that of the photos' sources there, if it still holds
        self._sources: dict[str, Source] | None = None  # not read yet
        self._openers: dict[str, Callable[[], Image.Image]] = {}  # of photos without a file

    def __len__(self) -> int:
        return len(self.index)

    @property
    def sources(self) -> dict[str, Source]:
        """The size, time and digest of each photo's file, by path, as it was encoded, as far as they are known; read when they are asked for."""
        if self._sources is None:
            origin, file = self.index.origin, self._sources_file
            if origin and file and not (origin[0] / file).is_file():
                raise InputError(
                    f"{origin[0]} was changed by another process since it was opened here: open it again and repeat the change"
                )
            self._sources = read_sources(origin[0] / file) if origin and file else {}
        return self._sources

    def add(
        self,
        photos: Any,
        *,
        fields: Mapping[str, Mapping[str, Value]] | None = None,
        vectors: Tensor | None = None,
        skip_bad: bool = False,
        device: str | None = None,
        batch_size: int = 128,
        progress: bool = True,
        shared: bool = False,
    ) -> None:
        """Add photos: a dataset, a folder, or a list of paths and PIL images. `fields` gives more fields of each, by path, for filters.

        `vectors` [N, V], if they are known already, are those of the photos in order. With `skip_bad` photos that cannot be read are left out, and
        listed in one warning at the end. If `shared`, all processes call this, and each encodes a share.
        """
        dataset = (photos if isinstance(photos, Dataset) else images(photos, check=not skip_bad)).photos
        entries = records(dataset, fields)
        if vectors is not None or not skip_bad:
            for record in entries:
                check_name(str(record["path"]))
        if vectors is not None:
            self._insert(dataset, entries, vectors, {})
            return
        vectors, intake = self._encode(dataset, skip_bad=skip_bad, device=device, batch_size=batch_size, progress=progress, shared=shared)
        good = intake.good
        if not good.any():
            raise InputError(f"none of the {len(dataset)} photos can be read: {next(iter(intake.bad.values()))}")
        self._insert(dataset.subset(good), [e for e, fine in zip(entries, good, strict=True) if fine], vectors[good], intake.sources)
        if intake.bad:
            warnings.warn(Skipped([*intake.bad.values()], len(dataset)), stacklevel=2)

    def _encode(
        self, photos: Dataset, *, skip_bad: bool, device: str | None, batch_size: int = 128, progress: bool, shared: bool = False
    ) -> tuple[Tensor, Intake]:
        """Vectors [N, V] of photos, and notes on their files; a photo that cannot be read has a vector too, which means nothing."""
        intake = Intake(photos, skip_bad=skip_bad)
        how: dict[str, Any] = {"batch_size": batch_size, "device": find_device(device), "progress": progress, "shared": shared}
        vectors = encode(self.encoder, intake.dataset, self.transform, side="gallery", **how).vectors
        if shared:
            intake.gather()
        return vectors, intake

    def _insert(self, photos: Dataset, entries: Sequence[Record], vectors: Tensor, sources: Mapping[str, Source]) -> None:
        self.index.add(vectors, entries)
        self._note({**{str(record["path"]): None for record in entries}, **sources})
        for i, record in enumerate(entries):
            path = str(record["path"])
            if not Path(path).is_file():
                self._openers[path] = lambda i=i: photos.read(i)  # type: ignore[misc]

    def _note(self, sources: Mapping[str, Source | None]) -> None:
        """Keep the sources of photos, by path, or forget them where they are None."""
        for path, source in sources.items():
            if source is not None:
                self.sources[path] = source
            else:
                self.sources.pop(path, None)
            self._sources_file = None

    def remove(self, paths: Collection[str]) -> None:
        """Remove photos by path, absolute as a search gives it or relative, all or none: an unknown path raises InputError."""
        try:
            self.index.remove(paths)
        except InputError:
            paths = [os.path.abspath(path) for path in paths]
            self.index.remove(paths)
        self._note(dict.fromkeys(paths))

    def sync(
        self,
        folder: str | Path,
        *,
        out: str | Path | None = None,
        skip_bad: bool = False,
        dry_run: bool = False,
        max_pixels: MaxPixels = MAX_PIXELS,
        device: str | None = None,
        progress: bool = True,
    ) -> Changes:
        """Bring the index in step with a folder: add its new photos, remove those that are gone, encode those anew that have changed.

        Photos from elsewhere stay. Files are told apart by size and time of change, and by their content where these differ. With `out`, the
        index's folder, it is saved there after every 8,192 photos and at the end, so that a stop loses little, and the next call goes on. With
        `skip_bad` files that cannot be read are left out, and listed in one warning. With `dry_run` nothing is done.

        >>> index = pipeline.index("photos", progress=False)
        >>> changes = index.sync("photos", progress=False)
        >>> len(changes.added), len(changes.removed), len(changes.changed), changes.kept
        (0, 0, 0, 36)
        """
        place = Path(folder).expanduser().resolve()
        if not place.is_dir():
            raise InputError(f"{folder} is no folder: `sbirlib sync` takes a whole folder of photos, `sbirlib add` one photo too")
        photos = images(place, max_pixels=max_pixels, check=False)
        indexed = {str(record["path"]): record for record in self.index.all_records()}
        changes, touched = compare(photos, str(place), indexed, self.sources)
        if dry_run:
            return changes
        if changes.unknown:
            logger.info(
                "%d photos were indexed without a note of their files: they are encoded once more, and compared", len(changes.unknown)
            )
        rows = changes.rows(photos)
        if not skip_bad:
            good_images([Path(photos.path(i)) for i in rows], skip_bad=False, max_pixels=max_pixels)
        if changes.removed:
            self.remove(changes.removed)
        for start in range(0, len(rows), ROWS):
            self._renew(photos.subset(rows[start : start + ROWS]), indexed, changes, skip_bad=skip_bad, device=device, progress=progress)
            if out is not None and len(self) and start + ROWS < len(rows):
                self.save(out)
        self._note(touched)
        if out is not None and not (self._in(out) and self._sources_file):
            self.save(out)
        if changes.bad:
            warnings.warn(Skipped(changes.bad, len(photos)), stacklevel=2)
        return changes

    def _renew(self, photos: Dataset, indexed: Mapping[str, Record], changes: Changes, *, skip_bad: bool, **how: Any) -> None:
        """Encode photos, and put them in the place of themselves where the index has them."""
        vectors, intake = self._encode(photos, skip_bad=skip_bad, **how)
        entries = [renewed(e, indexed.get(str(e["path"])), self.sources.get(str(e["path"]))) for e in records(photos)]
        step = replacement(self.index, [str(e["path"]) for e in entries], vectors, intake, changes)
        if step.leaving:
            self.remove(step.leaving)
        rows = np.flatnonzero(step.entering)
        if len(rows):
            self.index.add(vectors[rows], [entries[i] for i in rows])
        self._note(intake.sources)

    def search(self, sketch: Any, k: int = 10, where: Where | None = None) -> Hits:
        """The k best photos for one sketch (a path or a PIL image), best first; `where` filters, as in where={"category": ["cat", "dog"]}."""
        return self.search_all([sketch], k, where)[0]

    def search_all(self, sketches: Any, k: int = 10, where: Where | None = None, *, device: str | None = None) -> list[Hits]:
        """The k best photos for each sketch of a dataset, a folder, or a list of paths and PIL images; a blank sketch is logged as a warning.

        Sketches are encoded on `device`, the GPU if there is one.
        """
        dataset = _sketches(sketches)
        transform = BlankCheck(self.transform)
        numbered = replace(dataset, reader=Numbered(dataset.reader, dataset.threads))
        vectors = encode(self.encoder, numbered, transform, side="query", device=find_device(device)).vectors
        for i, position in enumerate(dataset.index.tolist()):
            if position in transform.blank:
                logger.warning("the sketch %s is blank, so its hits mean nothing: draw dark lines on a light sheet", dataset.path(i))
        return self.search_vectors(vectors, k, where)

    def search_vectors(self, queries: Tensor, k: int = 10, where: Where | None = None) -> list[Hits]:
        """The k best photos for query vectors [Q, S, V']."""
        scores, ids = self.index.search(self.expanded(queries, where), k, where)
        entries = iter(self.index.records(ids[ids >= 0]))  # of all queries at once, because a server answers each call with a delay
        rows = (score[row >= 0].tolist() for score, row in zip(scores, ids, strict=True))
        return [Hits([Hit(rank, score, next(entries)) for rank, score in enumerate(row, 1)], self.photo) for row in rows]

    def expanded(self, queries: Tensor, where: Where | None = None) -> Tensor:
        """Query vectors [Q, S, V'], expanded by the photos that pass the filter where the recipe says so."""
        if self.expansion is None or not self.index.count(where):
            return queries

        def search(vectors: Tensor, k: int) -> tuple[Tensor, Tensor]:
            scores, ids = self.index.search(vectors, k, where)
            there = ids >= 0
            photos = torch.zeros(*ids.shape, self.index.dim)
            photos[there] = self.index.vectors([str(record["path"]) for record in self.index.records(ids[there])])
            return scores, photos

        return expanded(queries, self.expansion, search)

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

    def draw(self) -> Any:
        """Open a page to draw on over this index, which a notebook shows in a frame; its `url` for a browser, `close()` ends it. Needs `serve`."""
        from sbirlib.serve import window

        return window(self)

    def save(self, folder: str | Path) -> None:
        """Save vectors, records and the encoder as one folder; after a failure, or a kill, the folder is as it was before.

        Of several processes rank 0 writes.
        """
        if rank() > 0:
            return
        here = self._in(folder)
        model = self._model if here and self._model else new_name("model")
        attached: dict[str, Callable[[Path], None] | None] = {model: None if here and model == self._model else self.export}
        file = self._sources_file if here else None
        if file is not None:
            attached[file] = None
        elif self.sources:
            attached[file := new_name(STEM)] = partial(write_sources, sources=self.sources)
        self.index.save(folder, about={"encoder": self.digest, "model": model}, attached=attached)
        self._model, self._sources_file = model, file

    def _in(self, folder: str | Path) -> bool:
        """Whether the index was opened from this folder, or saved in it last."""
        return self.index.origin is not None and self.index.origin[0] == Path(folder).resolve()

    def photo(self, path: str, *, draft: int = 0) -> Image.Image:
        """The photo of that path in the index, with `draft` as in `open_image`; raises PhotoGone, an InputError, where its file is gone."""
        if path in self._openers:
            return self._openers[path]()
        if (photo := member(path)) is not None:
            return photo
        if not Path(path).is_file():
            raise PhotoGone(f"{path} is in the index but no longer there: put it back, or let the index forget it with `sbirlib remove`")
        return open_image(path, max_pixels=sys.maxsize, draft=draft)  # the limit was checked when the photo was added


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
    return replace(sketches, reader=DecodedOnce(sketches.reader, sketches.threads, positions))


def _sketches(source: Any) -> Dataset:
    if isinstance(source, Dataset):
        return source.sketches
    return images(source if isinstance(source, str | Path) else list(source), modality="sketch")
