"""Intake of photos into an index: each file is read once, for its source and for its vector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.processes import everyone
from sbirlib.sync.source import Source, source_of

BLANK = Image.new("RGB", (8, 8), "white")


def check_name(path: str) -> None:
    """Raise InputError for a path that is no text, as file systems allow: an index keeps paths as UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the name of {path} is no text in UTF-8: rename it, or pass skip_bad=True (--skip-bad) to leave such files out"
        ) from error


class Intake:
    """Reader of a dataset's photos that notes the source of each file.

    Where `skip_bad`, it notes why an image cannot be read, and reads a blank one in its place.

    >>> from sbirlib.data.folder import images
    >>> intake = Intake(images("photos"))
    >>> _ = intake.dataset.read(0)
    >>> [source.bytes > 0 for source in intake.sources.values()]
    [True]
    """

    def __init__(self, photos: Dataset, *, skip_bad: bool = False) -> None:
        self.reader, self.threads, self.skip_bad = photos.reader, photos.threads, skip_bad
        self.dataset = replace(photos, reader=self)
        self._places = {int(position): i for i, position in enumerate(photos.index)}
        self._sources: dict[int, Source] = {}
        self._bad: dict[int, str] = {}

    def __call__(self, position: int) -> Image.Image:
        i = self._places[position]
        path, number = self.dataset.path(i), int(self.dataset.category[i])
        source = source_of(path, self.dataset.categories[number] if number >= 0 else "")
        try:
            check_name(path)
            image = self.reader(position)
        except InputError as error:
            if not self.skip_bad:
                raise
            self._bad[i] = str(error)
            return BLANK
        if source is not None:
            self._sources[i] = source
        return image

    def gather(self) -> None:
        """Bring together the notes of all processes, each of which has read a share."""
        for sources, bad in everyone((self._sources, self._bad)):
            self._sources |= sources
            self._bad |= bad

    @property
    def sources(self) -> dict[str, Source]:
        """The sources of the photos that were read, by path."""
        return {self.dataset.path(i): source for i, source in sorted(self._sources.items())}

    @property
    def bad(self) -> dict[str, str]:
        """Why photos could not be read, by path."""
        return {self.dataset.path(i): reason for i, reason in sorted(self._bad.items())}

    @property
    def good(self) -> NDArray[np.bool_]:
        """The mask [n] of the photos that could be read."""
        mask = np.ones(len(self.dataset), dtype=np.bool_)
        mask[list(self._bad)] = False
        return mask
