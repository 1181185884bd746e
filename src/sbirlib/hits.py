"""Results of a search: photos with their ranks and scores, which a notebook shows as pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sbirlib import html
from sbirlib.errors import InputError
from sbirlib.retrieval.indexes.shards import Record, Value

SHOWN = 20  # pictures in a notebook


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


class Hits(list[Hit]):
    """The hits of one sketch, best first; `photo` opens a photo by its path."""

    def __init__(self, hits: Iterable[Hit], photo: Callable[[str], Image.Image]) -> None:
        super().__init__(hits)
        self._photo = photo

    def _repr_html_(self) -> str:
        return html.strip((self._picture(hit.path), f"{hit.rank}: {hit.score:.3f} {Path(hit.path).name}") for hit in self[:SHOWN])

    def _picture(self, path: str) -> Image.Image | None:
        try:
            return self._photo(path)
        except InputError:  # gone since it was indexed
            return None
