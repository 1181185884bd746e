"""The index that is served: opened from its folder, and opened again when another process has changed it."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

from sbirlib.opening import open_index
from sbirlib.retrieval.indexes.manifest import MANIFEST
from sbirlib.serve.engine import Engine

logger = logging.getLogger(__name__)
EVERY = 1.0  # seconds between two looks at the folder
LONGEST = (
    60.0  # seconds between two tries to open an index that cannot be opened; the first is after `EVERY`, each other after twice the time
)


class Follower:
    """The index of an engine. One that was opened from a folder is opened again in the background when the folder's manifest changes.

    Where it cannot be opened, the former one is served on, and opening is tried again at the next change, or after a while: a file may come late.
    `stamp` is that of the folder before the index was opened, so that a change meanwhile is not missed; `verify` is as in `open_index`.
    """

    def __init__(self, folder: Path | None, stamp: Any, engine: Engine, *, verify: bool | None = None) -> None:
        self.folder, self.engine, self.verify = folder, engine, verify
        self.version = 0  # of what was read from the index, such as the counts of its fields
        self._stamp = self._tried = stamp  # of the index that is served, and of the one that was opened, or could not be, last
        self._look = self._again = time.monotonic() + EVERY  # times of the next look, and of the next try
        self._pause = EVERY
        self._opening: asyncio.Task[None] | None = None

    def follow(self) -> None:
        """Open the index again if it has changed; called with every request, and looks at the folder once a second at most."""
        now = time.monotonic()
        if self.folder is None or now < self._look or (self._opening and not self._opening.done()):
            return
        self._look, stamp = now + EVERY, stamp_of(self.folder)
        if stamp in (None, self._stamp) or (stamp == self._tried and now < self._again):
            return
        if stamp != self._tried:
            self._tried, self._pause = stamp, EVERY
        self._opening = asyncio.create_task(self._open(self.folder))

    async def _open(self, folder: Path) -> None:
        try:
            await asyncio.to_thread(self._take, folder)
        except Exception as error:  # a wrong file's, the system's, or a plugin's
            logger.warning("the index has changed and cannot be opened, so the former one is served on: %s", error)
            self._again = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST)
            return
        self._stamp = self._tried
        self.version += 1
        self.engine.meters.reloads.inc()
        logger.info("the index has changed: %d photos", len(self.engine.index))

    def _take(self, folder: Path) -> None:
        self.engine.take(open_index(folder, verify=self.verify))


def stamp_of(folder: Path | None) -> Any:
    """Time, number and size of the manifest in a folder: another after every save; None where there is none."""
    try:
        about = (folder / MANIFEST).stat() if folder else None
    except OSError:  # gone, or being replaced
        return None
    return about and (about.st_mtime_ns, about.st_ino, about.st_size)
