"""Image files: one target a format, of some modes each."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image
from tests.fuzz.targets import world
from tests.fuzz.targets.target import Target, digest_of

from sbirlib.data.images import check_header, open_image
from sbirlib.interfaces import PHOTO, SKETCH
from sbirlib.spec import part

FORMATS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {  # form, and the options of saving a picture of a mode
    "png": ("png", {"RGB": {}, "RGBA": {}, "P": {"transparency": 0}, "I;16": {}, "1": {}}),
    "jpg": (
        "image",
        {"RGB": {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"}, "L": {"progressive": True}, "CMYK": {}},
    ),
    "webp": ("image", {"RGB": {}, "RGBA": {"lossless": True}}),
    "gif": ("image", {"P": {}, "L": {"save_all": True, "append_images": [Image.new("L", (9, 9))]}}),
    "tif": (
        "tiff",
        {"RGB": {"compression": "tiff_lzw"}, "L": {"compression": "tiff_deflate"}, "1": {"compression": "group4"}, "RGBA": {}, "I;16": {}},
    ),
}


def make(suffix: str, folder: Path) -> None:
    """A picture of each mode."""
    for mode, options in FORMATS[suffix][1].items():
        image = Image.new("I;16", (16, 16), 40_000) if mode == "I;16" else world.pictures()[1].convert(mode)
        image.save(folder / f"{mode.replace(';', '')}.{suffix}", **options)


def answer(folder: Path) -> Any:
    """The prepared pixels of every picture, as a sketch and as a photo."""
    return {path.name: _prepared(path) for path in sorted(folder.iterdir())}


@lru_cache(maxsize=1)
def _transform() -> Any:
    return part("transform", {"name": "sbir", "size": 32})


def _prepared(path: Path) -> list[str]:
    check_header(path)
    image = open_image(path)
    pixels = hashlib.sha256(image.tobytes()).hexdigest()[:16]
    return [pixels, *(digest_of(_transform().prepare(image, modality)) for modality in (SKETCH, PHOTO))]


TARGETS = [
    Target(f"image_{suffix}", lambda folder, suffix=suffix: make(suffix, folder), answer, {f"*.{suffix}": form})  # type: ignore[misc]
    for suffix, (form, _) in FORMATS.items()
]
