"""TU-Berlin (Eitz et al. 2012) with the photos of its extension (Zhang et al. 2016): 250 classes of 80 sketches."""

from __future__ import annotations

from pathlib import Path

from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import from_entries
from sbirlib.data.images import MAX_PIXELS, MaxPixels
from sbirlib.data.published.facts import facts
from sbirlib.data.published.tree import by_class, find, place
from sbirlib.interfaces import PHOTO, SKETCH
from sbirlib.options import hold


def tuberlin_extended(root: str | Path, *, skip_bad: bool = False, max_pixels: MaxPixels = MAX_PIXELS) -> Dataset:
    """TU-Berlin Extended: <root>/png/<class>/ and <root>/ImageResized/<class>/: 20,000 sketches, and photos that end in .jpg and .JPEG.

    52 folders of photos are named otherwise than those of sketches; the names of the sketches are the published ones.

    Args:
        skip_bad: decode every file, leave out those that cannot be read, and list them in one warning
        max_pixels: largest number of pixels of an image, checked before it is decoded
    """
    hold(tuberlin_extended, {"skip_bad": skip_bad, "max_pixels": max_pixels})
    path, table = place(root), facts("tuberlin")
    sketches = by_class(path, find(path, ("png", "sketches")), SKETCH, table)
    photos = by_class(path, find(path, ("ImageResized", "images")), PHOTO, table)
    return from_entries("tuberlin_extended", path, sketches + photos, skip_bad=skip_bad, max_pixels=max_pixels, splits=table.splits)
