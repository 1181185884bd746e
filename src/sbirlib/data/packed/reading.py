"""Reading of packed datasets through a memory map."""

from __future__ import annotations

import io
import mmap
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import xxhash
from PIL import Image

from sbirlib.data.dataset import Dataset
from sbirlib.data.images import MAX_PIXELS, MaxPixels, upright
from sbirlib.data.packed.layout import FORMS, HEADER, RAW, SUFFIX, UNSPLIT, About, Counts, read_counts, read_index
from sbirlib.errors import InputError
from sbirlib.files import is_file
from sbirlib.options import hold


def packed(file: str | Path, *, skip_bad: bool = False, max_pixels: MaxPixels = MAX_PIXELS) -> Dataset:
    """The dataset in a file of `pack`, with the keys, labels and splits of the dataset that was packed.

    Opening reads labels and keys alone, whose digest is checked; an image is checked when it is read for the first time. `path` of an image
    is the file's path with the key behind it.

    Args:
        skip_bad: read every image, and leave out the damaged ones
        max_pixels: largest number of pixels of an image, checked before it is decoded

    >>> packed("my-data.pack").describe()
    'my-data: 6 categories, 36 sketches, 36 photos'
    """
    hold(packed, {"skip_bad": skip_bad, "max_pixels": max_pixels})
    reader = PackedImages(Path(file).expanduser().resolve(), max_pixels)
    arrays, about = reader.arrays, reader.about
    dataset = Dataset.of(
        about.name,
        categories=about.categories,
        **{name: arrays[name].astype(np.int64) for name in ("modality", "category", "instance")},
        keys=reader.keys,
        reader=reader,
        root=str(reader.path),
    )
    dataset = replace(dataset, splits={name: entry.model_dump(exclude_unset=True) for name, entry in about.splits.items()})
    if about.split_name != UNSPLIT:
        split = arrays["split"].astype(np.int64)
        dataset = replace(dataset, split=split, split_name=about.split_name, split_digest=about.split_digest)
    return dataset.subset(reader.whole()) if skip_bad else dataset


def is_packed(path: str | Path) -> bool:
    """Whether a path names a packed dataset: by its ending alone, so that a damaged one is named as such."""
    return Path(path).suffix == SUFFIX


def member(path: str | Path) -> Image.Image | None:
    """The image of a packed dataset by its path, the file's with the key behind it; None where the path leads into no packed dataset."""
    place = Path(path)
    for file in place.parents:
        if is_packed(file) and is_file(file):
            reader = _reader(file, file.stat().st_mtime_ns)
            position = reader.position(place.relative_to(file).as_posix())
            return None if position is None else reader(position)
    return None


@lru_cache(maxsize=4)
def _reader(path: Path, _time: int) -> PackedImages:
    return PackedImages(path, sys.maxsize)


class PackedImages:
    """Reader of the images of a packed file by position."""

    threads: ClassVar[int] = 4

    path: Path
    max_pixels: int
    counts: Counts
    about: About

    def __init__(self, path: Path, max_pixels: int) -> None:
        self.path, self.max_pixels = path, max_pixels
        self.counts = read_counts(path)
        with open(path, "rb") as opened:
            self.memory = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        self.arrays, self.about, self.keys = read_index(path, self.memory, self.counts)
        self.view = memoryview(self.memory)[HEADER : HEADER + self.counts.data_bytes]
        self.checked = np.zeros(self.counts.images, dtype=bool)
        self._refuse_large()

    def __reduce__(self) -> tuple[Any, ...]:  # a worker process maps the file anew
        return PackedImages, (self.path, self.max_pixels)

    def __call__(self, position: int) -> Image.Image:
        """The image at a position: its own pixels where they are stored as such, else decoded."""
        content = self._content(position)
        size = int(self.arrays["width"][position]), int(self.arrays["height"][position])
        form = FORMS[self.arrays["form"][position]]
        if form in RAW:
            return Image.frombuffer(form, size, content, "raw", form, 0, 1)  # type: ignore[arg-type]
        where = f"{self.path}: the image {self.keys[position]}"
        try:
            image = Image.open(io.BytesIO(content), formats=[form])
        except Exception as error:  # a decoder may raise anything on a broken image
            raise InputError(f"{where} is damaged ({error}): take another copy of the file, or pack it again") from error
        with image:
            if image.size != size:
                raise InputError(f"{where} is damaged: it is of {image.size[0]} x {image.size[1]} pixels, and not of {size[0]} x {size[1]}")
            return upright(image, where)

    def whole(self) -> list[int]:
        """Positions of the images that are not damaged."""
        positions = []
        for position in range(self.counts.images):
            try:
                self(position)
            except InputError:
                continue
            positions.append(position)
        return positions

    def position(self, key: str) -> int | None:
        """The position of a key; None where there is none such."""
        text, starts = key.encode("utf-8", "surrogatepass"), self.keys.starts
        place = -1
        buffer = self.keys.buffer.tobytes()
        while (place := buffer.find(text, place + 1)) >= 0:
            i = int(np.searchsorted(starts, place, "right")) - 1
            if starts[i] == place and starts[i + 1] == place + len(text):
                return i
        return None

    def _content(self, position: int) -> memoryview:
        """The bytes of an image, held against their digest when they are read for the first time."""
        first, last = self.arrays["image_starts"][position : position + 2].tolist()
        content = self.view[first:last]
        if not self.checked[position]:
            if xxhash.xxh3_128_digest(content) != self.arrays["digest"][position].tobytes():
                raise InputError(
                    f"{self.path} is damaged: the image {self.keys[position]} is not that of its digest; take another copy, or pack it again"
                )
            self.checked[position] = True
        return content

    def _refuse_large(self) -> None:
        sizes = self.arrays["width"].astype(np.int64) * self.arrays["height"]
        if (largest := int(sizes.argmax())) >= 0 and sizes[largest] > self.max_pixels:
            raise InputError(
                f"{self.path}: the image {self.keys[largest]} has {sizes[largest]} pixels, over the limit max_pixels={self.max_pixels} (--max-pixels)"
            )
