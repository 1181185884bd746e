"""Layout of a packed file: a sealed safetensors file of images, labels and keys, whose arrays are checked before they are used.

    header    safetensors, of HEADER bytes; its metadata holds the counts, the digest of the index and the digest of the file
    data      the images, one after another, uint8 [D]
    index     the arrays of COLUMNS and `about`, JSON of the schema About

The digest of the index is checked when a file is opened, that of an image when it is read.
"""

from __future__ import annotations

import json
import math
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import xxhash
from annotated_types import Ge, Le
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from sbirlib import sealed
from sbirlib.data.dataset import SPLITS
from sbirlib.data.split_file import KINDS
from sbirlib.data.texts import Texts
from sbirlib.documents import Count, Schema, read_json
from sbirlib.errors import InputError
from sbirlib.files import is_file
from sbirlib.interfaces import PHOTO, SKETCH

SUFFIX = ".pack"
VERSION = 1
UNSPLIT = "none"
HEADER = 4096  # bytes, a page: the images begin behind it, and the counts are known only when they are written
RAW = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}  # channels of each mode
FORMS = (*RAW, "JPEG", "PNG")
NAMES = {"<i8": "I64", "<i4": "I32", "|u1": "U8"}  # of safetensors
COLUMNS = {  # type, and shape in terms of the counts
    "image_starts": ("<i8", ("images+1",)),
    "key_starts": ("<i8", ("images+1",)),
    "modality": ("<i8", ("images",)),
    "category": ("<i8", ("images",)),
    "instance": ("<i8", ("images",)),
    "split": ("|u1", ("images",)),
    "width": ("<i4", ("images",)),
    "height": ("<i4", ("images",)),
    "digest": ("|u1", ("images", "16")),
    "form": ("|u1", ("images",)),
    "keys": ("|u1", ("key_bytes",)),
    "about": ("|u1", ("about_bytes",)),
}
Array = NDArray[Any]


class Counts(Schema):
    """The metadata: the digest of the file, version, lengths, and the digest of the index."""

    xxh3: str
    packed: Annotated[int, Ge(1)]
    images: Annotated[int, Ge(1), Le(2**40)]
    data_bytes: Count
    key_bytes: Count
    about_bytes: Count
    index: str

    def lengths(self, shape: tuple[str, ...]) -> list[int]:
        """A shape of COLUMNS in numbers."""
        counts = {"images": self.images, "images+1": self.images + 1, "key_bytes": self.key_bytes, "about_bytes": self.about_bytes}
        return [counts[word] if word in counts else int(word) for word in shape]


class Published(Schema, extra="allow"):
    """A split that is published with a dataset; its lists are checked when it is used."""

    counts: dict[str, int] = Field(default_factory=dict)


class About(Schema):
    """The dataset: name, categories, published splits, its own split ("none": it has none), and `source`, a digest of all that was packed."""

    name: str
    source: str
    split_name: str
    split_digest: str
    categories: list[str]
    splits: dict[str, Published]


class Header(Schema, extra="ignore"):
    """The header of a safetensors file, of which only the metadata is read: the rest follows from it."""

    metadata: dict[str, str] = Field(alias="__metadata__")


class Version(Schema, extra="ignore"):
    """The version of the format, in the metadata of any version."""

    packed: Annotated[int, Ge(1)]


def header(counts: Counts) -> bytes:
    """The header that belongs to these counts, of HEADER bytes."""
    tensors, place = {}, 0
    for name, (kind, shape) in {"data": ("|u1", ()), **COLUMNS}.items():
        lengths = [counts.data_bytes] if name == "data" else counts.lengths(shape)
        size = math.prod(lengths) * np.dtype(kind).itemsize
        tensors[name] = {"dtype": NAMES[kind], "shape": lengths, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(counts.model_dump(), separators=(",", ":"))
    content = json.dumps({"__metadata__": {sealed.TEXT: text}, **tensors}, separators=(",", ":")).encode()
    return (HEADER - 8).to_bytes(8, "little") + content.ljust(HEADER - 8)


def read_counts(path: Path) -> Counts:
    """The counts of a packed file, from its header alone; InputError where it is none, or of another version."""
    if not is_file(path):
        raise InputError(f"there is no file {str(path)[:500]!r}: expected a dataset of `sbirlib pack`")
    try:
        with open(path, "rb") as file:
            content = file.read(HEADER)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror})") from error
    if not content[8:].startswith(b'{"__metadata__":{' + sealed.MARK):
        raise InputError(f"{str(path)!r} is no dataset of `sbirlib pack`, or its begin is damaged; take another copy, or make it again")
    where = f"the header of {str(path)!r}"
    text = read_json(content[8:], TypeAdapter(Header), where).metadata.get(sealed.TEXT, "")
    if (version := read_json(text, TypeAdapter(Version), where).packed) > VERSION:
        raise InputError(
            f"{str(path)!r} is of format {version}, and this version reads {VERSION}: install a newer sbirlib, or pack it again"
        )
    counts = read_json(text, TypeAdapter(Counts), where)
    if content != header(counts):
        raise sealed.damaged(path)
    return counts


def read_index(path: Path, memory: mmap.mmap, counts: Counts) -> tuple[dict[str, Array], About, Texts]:
    """The arrays of a file by name, mapped from it, its description, and its keys; InputError where they do not fit each other."""
    size = sum(math.prod(counts.lengths(shape)) * np.dtype(kind).itemsize for kind, shape in COLUMNS.values())
    if len(memory) != HEADER + counts.data_bytes + size:
        raise InputError(f"{str(path)!r} is damaged or cut short: it has {len(memory)} bytes, and its header says otherwise")
    place = HEADER + counts.data_bytes
    with memoryview(memory) as view, view[place:] as index:
        if xxhash.xxh3_128_hexdigest(index) != counts.index:
            raise sealed.damaged(path)
    arrays = {}
    for name, (kind, shape) in COLUMNS.items():
        lengths = counts.lengths(shape)
        arrays[name] = np.frombuffer(memory, kind, math.prod(lengths), place).reshape(lengths)
        place += arrays[name].nbytes
    about = read_json(arrays["about"].tobytes(), TypeAdapter(About), f"the description in {str(path)!r}")
    keys = Texts(arrays["keys"], arrays["key_starts"])
    if fault := _fault(arrays, counts, about, keys):
        raise InputError(f"{str(path)!r} is damaged, or by another program: {fault}; take another copy, or make it again")
    return arrays, about, keys


def _fault(arrays: Mapping[str, Array], counts: Counts, about: About, keys: Texts) -> str:
    """The first fault of the arrays, "" where they fit each other."""
    starts, form = arrays["image_starts"], arrays["form"]
    if (form >= len(FORMS)).any():
        return "an image is of an unknown form"
    if not _partition(starts, counts.data_bytes, padding=7):
        return "images overlap, or lie outside of the data"
    if not _partition(keys.starts, counts.key_bytes, padding=0):
        return "keys overlap, or lie outside of their text"
    sizes, raw = arrays["width"].astype(np.int64) * arrays["height"], form < len(RAW)
    if (arrays["width"] < 1).any() or (arrays["height"] < 1).any():
        return "an image has no pixels"
    if (np.diff(starts)[raw] != (sizes * np.array([*RAW.values(), 0, 0])[form])[raw]).any():
        return "the bytes of an image are not those of its size"
    if not np.isin(arrays["modality"], (SKETCH, PHOTO)).all():
        return "a modality is neither sketch nor photo"
    if about.split_name != UNSPLIT and (arrays["split"] >= len(SPLITS)).any():
        return "an image is in no split"
    if not (_within(arrays["category"], len(about.categories)) and _within(arrays["instance"], counts.images)):
        return "a category or an instance is not one of its names"
    if len(set(about.categories)) < len(about.categories):
        return "two categories have one name"
    if any(not KINDS.keys() & entry.model_dump().keys() for entry in about.splits.values()):
        return "a split is of no kind"
    return unfit(keys)


def _partition(starts: Array, total: int, *, padding: int) -> bool:
    """Whether starts [n + 1] rise from 0 to `total`, less at most `padding` bytes."""
    return bool(starts[0] == 0 and (np.diff(starts) >= 0).all() and 0 <= total - starts[-1] <= padding)


def _within(numbers: Array, count: int) -> bool:
    return bool((numbers >= -1).all() and (numbers < count).all())


def unfit(keys: Texts) -> str:
    """The reason why keys cannot be those of a packed file, "" where they can: each is UTF-8, and a path that stays inside."""
    text = keys.buffer.tobytes()
    try:
        text.decode()
    except UnicodeDecodeError:
        return "a key is no UTF-8"
    first = keys.buffer[keys.starts[:-1][np.diff(keys.starts) > 0]]
    if ((first & 0xC0) == 0x80).any():
        return "a key begins within a letter"
    if np.isin(first, (ord("/"), ord("\\"))).any() or (b".." in text and any(".." in re.split(r"[/\\]", key) for key in keys)):
        return "a key leads out of the file"
    return ""
