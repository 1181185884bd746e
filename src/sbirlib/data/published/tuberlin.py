"""TU-Berlin (Eitz et al. 2012) with the photos of its extension (Zhang et al. 2016): 250 classes of 80 sketches."""

from __future__ import annotations

from pathlib import Path

from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import from_entries
from sbirlib.data.images import MAX_PIXELS
from sbirlib.data.published.facts import facts
from sbirlib.data.published.tree import by_class, find, place
from sbirlib.interfaces import PHOTO, SKETCH


def tuberlin_extended(root: str | Path, *, skip_bad: bool = False, max_pixels: int = MAX_PIXELS) -> Dataset:
    """<root>/png/<class>/ and <root>/ImageResized/<class>/: 20,000 sketches, and photos that end in .jpg and .JPEG.

    52 folders of photos have other names than those of sketches; the published names are those of the sketches.
    """
    at, known = place(root), facts("tuberlin")
    sketches = by_class(at, find(at, ("png", "sketches")), SKETCH, known)
    photos = by_class(at, find(at, ("ImageResized", "images")), PHOTO, known)
    return from_entries("tuberlin_extended", at, sketches + photos, skip_bad=skip_bad, max_pixels=max_pixels, splits=known.splits)
