"""QuickDraw Extended (Dey et al. 2019): 110 classes, 330,000 sketches of an amateur's twenty seconds, 204,000 photos."""

from __future__ import annotations

from pathlib import Path

from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import from_entries
from sbirlib.data.images import MAX_PIXELS, MaxPixels
from sbirlib.data.published.facts import facts
from sbirlib.data.published.tree import by_class, find, place
from sbirlib.interfaces import PHOTO, SKETCH
from sbirlib.options import hold


def quickdraw_extended(root: str | Path, *, skip_bad: bool = False, max_pixels: MaxPixels = MAX_PIXELS) -> Dataset:
    """QuickDraw Extended: <root>/QuickDraw_sketches_final/<class>/ and <root>/QuickDraw_images_final/<class>/.

    Args:
        skip_bad: decode every file, leave out those that cannot be read, and list them in one warning
        max_pixels: largest number of pixels of an image, checked before it is decoded
    """
    hold(quickdraw_extended, {"skip_bad": skip_bad, "max_pixels": max_pixels})
    path, table = place(root), facts("quickdraw")
    sketches = by_class(path, find(path, ("QuickDraw_sketches_final", "sketches")), SKETCH, table)
    photos = by_class(path, find(path, ("QuickDraw_images_final", "images")), PHOTO, table)
    return from_entries("quickdraw_extended", path, sketches + photos, skip_bad=skip_bad, max_pixels=max_pixels, splits=table.splits)
