"""Packed datasets, of pixels and of JPEG and PNG images."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from PIL import Image
from tests.fuzz.targets import world
from tests.fuzz.targets.datasets import described
from tests.fuzz.targets.target import Target

from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import from_lists
from sbirlib.data.named import dataset as named
from sbirlib.data.packed import pack, packed
from sbirlib.verification import verify


def make(jpeg: int | None, folder: Path) -> None:
    """A file of sketches, of which one is drawn in the alpha channel, and of photos, with a published split."""
    polygons = world.dataset()
    ink = polygons.sketches.read(0).convert("L").point(lambda v: 255 - v)
    rows = [(data.read(i), f"class{data.category[i]}", int(data.instance[i])) for data in (polygons.sketches,) for i in range(len(data))]
    sketches = [(Image.merge("LA", (Image.new("L", ink.size), ink)), "class0", 0), *rows[1:]]
    photos = [(polygons.photos.read(i), f"class{polygons.photos.category[i]}", int(polygons.photos.instance[i])) for i in range(6)]
    data = from_lists("polygons", sketches, photos)
    splits = {"first": {"unseen": ["class2"], "validation": ["class1"], "counts": {"query_sketches": 2}}}
    pack(Dataset(**{**vars(data), "splits": splits}), folder / "x.pack", jpeg=jpeg, progress=False)


def answer(folder: Path) -> Any:
    """Labels and pixels of all images, unsplit and by the published split."""
    data, split = packed(folder / "x.pack"), named("x.pack", "first")
    return [described(data), described(split), [_digest(data.read(i)) for i in range(len(data))], len(split.test)]


def _digest(image: Image.Image) -> str:
    return f"{image.mode} {image.size} {hashlib.sha256(image.tobytes()).hexdigest()[:16]}"


def answer_verify(folder: Path) -> Any:
    """The state of the file."""
    return [finding.state for finding in verify(folder / "x.pack")]


TARGETS = [
    Target("packed_pixels", lambda folder: make(None, folder), answer, {"x.pack": "safetensors"}),
    Target("packed_jpeg", lambda folder: make(90, folder), answer, {"x.pack": "safetensors"}),
    Target(
        "packed_verify",
        lambda folder: make(None, folder),
        answer_verify,
        {"x.pack": "safetensors"},
        agrees=lambda states, expected: states in (expected, ["damaged"]),
    ),
]
