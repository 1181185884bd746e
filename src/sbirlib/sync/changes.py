"""Changes of a folder of photos since an index took them in."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sbirlib import sealed
from sbirlib.data.dataset import Dataset
from sbirlib.progress import track
from sbirlib.sync.source import UNSETTLED, Source, look_at


@dataclass
class Changes:
    """Photos of a folder by path, compared with an index: new ones, those that are gone, and those whose content or category is another.

    `kept` counts those that are as they were. Of those in `unknown` an index of an earlier version does not say what their files were: they are
    encoded once more, and are `changed` or `kept` by their vectors. `bad` has a line for each file that cannot be read.
    """

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    kept: int = 0
    bad: list[str] = field(default_factory=list)

    def rows(self, photos: Dataset) -> list[int]:
        """The numbers of those photos that are to be encoded."""
        anew = {*self.added, *self.changed, *self.unknown}
        return [i for i in range(len(photos)) if photos.path(i) in anew] if anew else []


def compare(photos: Dataset, root: str, indexed: Collection[str], sources: Mapping[str, Source]) -> tuple[Changes, dict[str, Source]]:
    """Changes of the photos below `root` since `indexed` ones had these sources; and sources to update, of files that were only touched.

    Size and time are compared first; only where they differ, or the time is unsettled, is a file read, and its digest decides. A photo below a path
    that is no folder now is not called removed: it may lie in a packed dataset, or where a link leads nowhere for a while.
    """
    changes, touched, present = Changes(), dict[str, Source](), set[str]()
    for i in track(range(len(photos)), total=len(photos), label="comparing files"):
        path, number = photos.path(i), int(photos.category[i])
        present.add(path)
        if path not in indexed:
            changes.added.append(path)
        elif (source := sources.get(path)) is None:
            changes.unknown.append(path)
        else:
            now = _unchanged(path, source, photos.categories[number] if number >= 0 else "")
            if now is None:
                changes.changed.append(path)
                continue
            changes.kept += 1
            if now != source:
                touched[path] = now
    inside = os.path.join(root, "")
    changes.removed = [path for path in indexed if path.startswith(inside) and path not in present and not _hidden(path, inside, present)]
    return changes, touched


def _unchanged(path: str, source: Source, category: str) -> Source | None:
    """The source of a photo as it is now, where it has the same content and no other category; None where it has changed."""
    place = look_at(path)
    if place is None or place[0] != source.bytes or (category and category != source.category):
        return None
    if place[1] == source.modified != UNSETTLED:
        return source
    try:
        same = sealed.digest(Path(path), 0) == source.xxh3
    except OSError:
        return None
    return source._replace(modified=place[1]) if same else None


def _hidden(path: str, inside: str, present: Collection[str]) -> bool:
    """Whether some part of the path below the root is a file, or a link or a folder that cannot be followed."""
    above = os.path.dirname(path)
    while above.startswith(inside):
        if above in present or os.path.isfile(above):
            return True
        above = os.path.dirname(above)
    return False
