"""Draw to search: vectors of photos, and the encoder that turns a sketch into a query."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
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
from sbirlib.retrieval.flat import Flat
from sbirlib.visual.grid import retrieval_grid

FORMAT = 1


@dataclass(frozen=True)
class Hit:
    """One photo found: its rank from 1, its score (larger is nearer), its path, and its category where it is known."""

    rank: int
    score: float
    path: str
    category: str | None


@dataclass(frozen=True)
class Photos:
    """What is searched: paths (or keys) and categories, and how to open them."""

    paths: tuple[str, ...]
    categories: tuple[str | None, ...]
    opener: Callable[[int], Image.Image]

    @classmethod
    def of(cls, dataset: Dataset) -> Photos:
        names = tuple(dataset.categories[c] if c >= 0 else None for c in dataset.category)
        return cls(tuple(dataset.path(i) for i in range(len(dataset))), names, dataset.read)


class SearchIndex:
    """Made by `Pipeline.index`, opened again by `open_index`."""

    def __init__(
        self,
        encoder: Encoder,
        transform: Transform,
        photos: Photos,
        flat: Flat,
        *,
        digest: str,
        export: Callable[[Path], None] | None = None,
    ) -> None:
        self.encoder, self.transform, self.photos, self.flat, self.digest, self.export = encoder, transform, photos, flat, digest, export

    def __len__(self) -> int:
        return len(self.photos.paths)

    def search(self, sketch: Any, k: int = 10) -> list[Hit]:
        """The k best photos for one sketch (a path or a PIL image), best first."""
        return self.search_all([sketch], k)[0]

    def search_all(self, sketches: Sequence[Any], k: int = 10) -> list[list[Hit]]:
        """The k best photos for each sketch."""
        vectors = encode(self.encoder, images(list(sketches), modality="sketch"), self.transform, role="query").vectors
        return self.search_vectors(vectors, k)

    def search_vectors(self, queries: Tensor, k: int = 10) -> list[list[Hit]]:
        """The k best photos for query vectors [Q, S, V']."""
        scores, rows = self.flat.search(queries, k)
        return [
            [
                Hit(rank, score, self.photos.paths[row], self.photos.categories[row])
                for rank, (score, row) in enumerate(zip(*found, strict=True), 1)
            ]
            for found in zip(scores.tolist(), rows.tolist(), strict=True)
        ]

    def grid(self, sketches: Sequence[Any], categories: Sequence[str | None] | None = None, k: int = 10) -> Image.Image:
        """A picture: a row a sketch with its k best photos, framed green where `categories` says they are right, red where wrong."""
        wanted = list(categories) if categories is not None else [None] * len(sketches)
        place = {path: i for i, path in enumerate(self.photos.paths)}
        found = self.search_all(sketches, k)
        right = [
            [None if name is None or h.category is None else h.category == name for h in hits]
            for name, hits in zip(wanted, found, strict=True)
        ]
        drawings = images(list(sketches), modality="sketch")
        return retrieval_grid(
            [drawings.read(i) for i in range(len(drawings))],
            [[self.photos.opener(place[h.path]) for h in hits] for hits in found],
            right,
            titles=[name or "" for name in wanted],
        )

    def save(self, folder: str | Path) -> None:
        """Vectors, paths, recipe digest and the encoder, as one folder that appears whole or not at all."""
        target = Path(folder)
        if target.exists() and not (target / "index.json").is_file():
            raise InputError(f"{target} is there and is not an index: choose another folder")
        partial, old = target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.old")
        if old.exists() and not target.exists():  # an earlier save was killed between its two renames
            os.replace(old, target)
        for stale in (partial, old):
            shutil.rmtree(stale, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            self.flat.save(partial)
            if self.export is not None:
                self.export(partial / "model.safetensors")
            about = {"format": FORMAT, "recipe_digest": self.digest, "paths": self.photos.paths, "categories": self.photos.categories}
            (partial / "index.json").write_text(json.dumps(about), encoding="utf-8")
            if target.exists():
                os.replace(target, old)
            os.replace(partial, target)
        except OSError as error:
            if old.exists():
                os.replace(old, target)
            raise InputError(f"the index could not be saved in {target} ({error}); what stood there before is untouched") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)

    @classmethod
    def open(
        cls, folder: str | Path, *, encoder: Encoder, transform: Transform, digest: str, export: Callable[[Path], None] | None = None
    ) -> SearchIndex:
        """Read a saved index; `encoder` must be the one of the recipe that made it."""
        about = json.loads((check_index(folder) / "index.json").read_text(encoding="utf-8"))
        if about["recipe_digest"] != digest:
            raise InputError(
                f"{folder} was made by another recipe ({about['recipe_digest'][:12]}) than this encoder's ({digest[:12]}): index the photos again"
            )
        flat = Flat.open(Path(folder))
        photos = Photos(tuple(about["paths"]), tuple(about["categories"]), lambda row: open_image(about["paths"][row]))
        return cls(encoder, transform, photos, flat, digest=digest, export=export)


def check_index(folder: str | Path) -> Path:
    """The folder of a saved index, if it is one."""
    if not (Path(folder) / "index.json").is_file():
        raise InputError(f"{folder} is not an index: it holds no index.json; make one with `sbirlib index MODEL PHOTOS --out FOLDER`")
    return Path(folder)
