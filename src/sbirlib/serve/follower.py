"""The index that is served: opened from its folder, and opened again when another process has changed it."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

from sbirlib.errors import InputError
from sbirlib.opening import open_index
from sbirlib.retrieval.indexes.manifest import MANIFEST
from sbirlib.serve.engine import Engine

logger = logging.getLogger(__name__)
EVERY = 1.0  # seconds between two looks at the folder


class Follower:
    """The index of an engine. One that was opened from a folder is opened again in the background when the folder's manifest changes.

    `stamp` is that of the folder before the index was opened, so that a change meanwhile is not missed.
    """

    def __init__(self, folder: Path | None, stamp: Any, engine: Engine) -> None:
        self.folder, self.engine = folder, engine
        self.version = 0  # of what was read from the index, such as the counts of its fields
        self._stamp, self._looked = stamp, time.monotonic()
        self._opening: asyncio.Task[None] | None = None

    def follow(self) -> None:
        """Open the index again if it has changed; called with every request, and looks at the folder once a second at most."""
        now = time.monotonic()
        if self.folder is None or now - self._looked < EVERY or (self._opening and not self._opening.done()):
            return
        self._looked, stamp = now, stamp_of(self.folder)
        if stamp not in (None, self._stamp):
            self._stamp = stamp
            self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        assert self.folder is not None
        try:
            index = await asyncio.to_thread(open_index, self.folder)
        except InputError as error:
            logger.warning("the index has changed and cannot be opened, so the former one is served on: %s", error)
            return
        self.engine.take(index)
        self.version += 1
        self.engine.meters.reloads.inc()
        logger.info("the index has changed: %d photos", len(index))


def stamp_of(folder: Path | None) -> Any:
    """Time, number and size of the manifest in a folder: another after every save; None where there is none."""
    try:
        about = (folder / MANIFEST).stat() if folder else None
    except OSError:  # gone, or being replaced
        return None
    return about and (about.st_mtime_ns, about.st_ino, about.st_size)
