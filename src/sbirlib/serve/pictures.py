"""Photos and thumbnails as they are served: JPEG, upright, of bounded size, made once and kept in a bounded cache on disk."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
from contextlib import suppress
from pathlib import Path
from threading import Lock

from PIL import Image

from sbirlib.data.images import FORMATS
from sbirlib.data.transforms import on_white
from sbirlib.errors import InputError
from sbirlib.files import atomic_write, is_file
from sbirlib.search import SearchIndex

logger = logging.getLogger(__name__)
LARGE, SMALL = 2048, 256  # pixels of the longer side
QUALITY = 85
BYTES = 2**30  # of the cache
CHECKED = 256  # new files between two looks at the size of the cache


class Pictures:
    """Photos of an index by path; what is encoded again is free of metadata, such as the place where a photo was taken."""

    def __init__(self, cache: Path | None, *, limit: int = BYTES) -> None:
        self.cache, self.limit = cache, limit
        self._new, self._lock = CHECKED, Lock()
        self._told = False  # that the cache cannot be written

    def read(self, index: SearchIndex, path: str, side: int) -> bytes:
        """The photo as JPEG with at most `side` pixels on its longer side; InputError where it is gone or damaged."""
        place = self._place(path, side)
        if place is not None and place.is_file():
            with suppress(OSError):  # removed meanwhile
                content = place.read_bytes()
                with suppress(OSError):  # of a cache that may be read alone
                    os.utime(place)  # the least recently read go first
                return content
        content = encoded(index.photo(path, draft=_shorter(path, side)), side)
        if place is not None:
            self._keep(place, content)
        return content

    def _keep(self, place: Path, content: bytes) -> None:
        """Write a picture into the cache; where that fails, as on a full disk, it is made again each time."""
        try:
            place.parents[1].mkdir(0o700, parents=True, exist_ok=True)  # the photos may be for this user alone
            with atomic_write(place) as partial:
                partial.write_bytes(content)
            self._bound()
        except (InputError, OSError) as error:
            if not self._told:
                logger.warning("pictures are served, and not kept: %s", error)
            self._told = True

    def _place(self, path: str, side: int) -> Path | None:
        """The file of the cache for a photo as it is now; None for a photo without a file."""
        if self.cache is None:
            return None
        try:
            about = os.stat(path)
        except (OSError, ValueError):
            return None
        name = hashlib.sha256(f"{path}\0{about.st_mtime_ns}\0{about.st_size}\0{side}".encode("utf-8", "surrogateescape")).hexdigest()
        return self.cache / name[:2] / f"{name}.jpg"

    def _bound(self) -> None:
        """Remove the files that were read longest ago, where the cache is over its limit."""
        with self._lock:
            self._new += 1
            if self._new < CHECKED or self.cache is None:
                return
            self._new = 0
            files = []
            for file in self.cache.glob("*/*.jpg"):
                with suppress(OSError):
                    about = file.stat()
                    files.append((about.st_mtime_ns, about.st_size, file))
            over = sum(size for _, size, _ in files) - self.limit
            for _, size, file in sorted(files):
                if over <= 0:
                    return
                file.unlink(missing_ok=True)
                over -= size


def _shorter(path: str, side: int) -> int:
    """Pixels of the shorter side of a file's photo once its longer side has `side`; 0 where it is no larger, or there is no such file."""
    if not is_file(path):  # to open a pipe would wait for its writer
        return 0
    with suppress(Exception), Image.open(path, formats=FORMATS) as photo:  # the photo itself is read by those who tell its faults
        return math.ceil(side * min(photo.size) / max(photo.size)) if max(photo.size) > side else 0
    return 0


def encoded(photo: Image.Image, side: int) -> bytes:
    """A photo as JPEG, with at most `side` pixels on its longer side."""
    picture = on_white(photo).convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
