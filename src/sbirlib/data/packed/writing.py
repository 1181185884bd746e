"""Packing of a dataset into one file: in threads, resumed after a kill, and put in place when it is whole."""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, BinaryIO

import numpy as np
import xxhash
from annotated_types import Interval
from numpy.typing import NDArray

from sbirlib import sealed
from sbirlib.data.dataset import Dataset
from sbirlib.data.images import Files
from sbirlib.data.packed.layout import COLUMNS, HEADER, SUFFIX, UNSPLIT, VERSION, About, Array, Counts, Published, header, unfit
from sbirlib.data.packed.reading import PackedImages, packed
from sbirlib.data.packed.shrinking import Encoded, Shrinking
from sbirlib.data.texts import Texts
from sbirlib.errors import InputError
from sbirlib.files import locked
from sbirlib.options import hold
from sbirlib.progress import track
from sbirlib.threads import cores

ENTRY = np.dtype(
    [("source", "<u8"), ("bytes", "<i8"), ("width", "<i4"), ("height", "<i4"), ("form", "|u1"), ("digest", "|u1", 16)]
)  # a finished image
AHEAD = 8  # images a thread that wait to be written
Size = Annotated[int, Interval(ge=8, le=4096)]
Quality = Annotated[int, Interval(ge=1, le=100)]


def pack(
    dataset: Dataset,
    out: str | Path,
    *,
    size: Size = 256,
    jpeg: Quality | None = None,
    workers: Annotated[int, Interval(ge=1, le=256)] | None = None,
    progress: bool = True,
) -> Dataset:
    """Write all images of a dataset into the file `out`, with keys, labels and splits; return the dataset in it.

    A packing that was killed goes on where it was, by the same call; the file is the same as one without a kill. Nothing is done where the
    file is there already, of the same images, labels and options.

    Args:
        size: largest number of pixels on the shorter side of an image; smaller images stay as they are
        jpeg: quality of photos as JPEG, sketches then being PNG; None for pixels, which are read fastest
        workers: threads; those of all cores where None
        progress: show a bar after two seconds

    >>> pack(folder("my-data"), "small.pack", size=64).describe()
    'my-data: 6 categories, 36 sketches, 36 photos'
    """
    hold(pack, {"size": size, "jpeg": jpeg, "workers": workers})
    target = Path(out).expanduser().resolve()
    keys = _keys(dataset, target)
    sources = _sources(dataset, keys, {"size": size, "jpeg": jpeg}, progress=progress)
    about = _about(dataset, keys, sources)
    if target.exists():
        _refuse_other(target, about)
        return packed(target)
    if isinstance(dataset.reader, Files):
        dataset = replace(dataset, reader=replace(dataset.reader, draft=size))
    work = _work(target)
    try:
        with locked(work):
            if target.exists():  # by another process meanwhile
                _refuse_other(target, about)
                return packed(target)
            with Building(work, sources) as building:
                _fill(building, dataset, Shrinking(size, jpeg), workers or _threads(dataset), progress=progress)
                building.finish(dataset, keys, about)
            os.replace(work / "data", target)
            shutil.rmtree(work)
    except OSError as error:
        raise InputError(
            f"{str(target)!r} could not be written ({error.strerror or error}): make room and say the same again, which goes on from here, "
            f"or remove {str(work)!r}"
        ) from error
    return packed(target)


class Building:
    """An unfinished packed file: `data`, the file so far, and `entries`, an ENTRY for each image in it.

    Both only grow. An image counts where its entry is whole, its bytes are those of the entry's digest, and its source is that of now, so
    that no order of writes to the disk needs to hold. All behind the first image that does not count is cut off. `sources` is [n].
    """

    def __init__(self, work: Path, sources: NDArray[np.uint64]) -> None:
        self.data, self.entries = (_opened(work / name) for name in ("data", "entries"))
        self.sources = sources
        self.count = self._resumed()

    def __enter__(self) -> Building:
        return self

    def __exit__(self, *_: object) -> None:
        self.data.close()
        self.entries.close()

    def _resumed(self) -> int:
        """The number of images that count; both files are cut behind them."""
        self.entries.seek(0)
        content = self.entries.read()
        entries = np.frombuffer(content[: len(content) // ENTRY.itemsize * ENTRY.itemsize], ENTRY)
        length, count, end = os.fstat(self.data.fileno()).st_size, 0, HEADER
        self.data.seek(HEADER)
        for entry, source in zip(entries, self.sources, strict=False):
            size = int(entry["bytes"])
            if entry["source"] != source or not 0 <= size <= length - end:
                break
            if xxhash.xxh3_128_digest(self.data.read(size)) != entry["digest"].tobytes():
                break
            count, end = count + 1, end + size
        for file, place in ((self.data, end), (self.entries, count * ENTRY.itemsize)):
            file.truncate(place)
            file.seek(place)
        return count

    def add(self, image: Encoded) -> None:
        """Append the next image."""
        digest = np.frombuffer(xxhash.xxh3_128_digest(image.content), np.uint8)
        entry = (self.sources[self.count], len(image.content), image.width, image.height, image.form, digest)
        for file, content in ((self.data, image.content), (self.entries, np.array([entry], ENTRY).tobytes())):
            file.write(content)
            file.flush()
        self.count += 1

    def finish(self, dataset: Dataset, keys: Texts, about: About) -> None:
        """Append the index, and write the header, with the digest of the whole."""
        self.data.flush()
        self.entries.flush()
        self.entries.seek(0)
        arrays = _index(np.frombuffer(self.entries.read(), ENTRY), dataset, keys, about)
        end = HEADER + int(arrays["image_starts"][-1])
        padding = -end % 8
        index = xxhash.xxh3_128()
        self.data.seek(end)
        self.data.write(bytes(padding))
        for name in COLUMNS:
            index.update(arrays[name].data)
            self.data.write(arrays[name].data)
        counts = Counts(
            xxh3=sealed.ZEROS,
            packed=VERSION,
            images=len(dataset),
            data_bytes=end - HEADER + padding,
            key_bytes=len(keys.buffer),
            about_bytes=len(arrays["about"]),
            index=index.hexdigest(),
        )
        self.data.seek(0)
        self.data.write(header(counts))
        self.data.flush()
        sealed.seal(Path(self.data.name))
        os.fsync(self.data.fileno())


def _opened(path: Path) -> BinaryIO:
    """A file that is read and written, made where there is none."""
    path.touch()
    return open(path, "rb+")


def _index(entries: NDArray[np.void], dataset: Dataset, keys: Texts, about: About) -> dict[str, Array]:
    """The arrays of COLUMNS; `entries` [n]."""
    starts = np.zeros(len(dataset) + 1, dtype=np.int64)
    np.cumsum(entries["bytes"], out=starts[1:])
    text = json.dumps(about.model_dump(exclude_unset=True), separators=(",", ":"), ensure_ascii=False).encode()
    arrays = {name: entries[name] for name in ("width", "height", "form", "digest")}
    arrays |= {"modality": dataset.modality, "category": dataset.category, "instance": _renumbered(dataset.instance)}
    arrays["split"] = np.full(len(dataset), 255) if dataset.split is None else dataset.split
    arrays |= {"image_starts": starts, "key_starts": keys.starts, "keys": keys.buffer, "about": np.frombuffer(text, np.uint8)}
    return {name: np.ascontiguousarray(arrays[name], dtype=kind) for name, (kind, _) in COLUMNS.items()}


def _renumbered(instance: Array) -> Array:
    """Instances [n] numbered from 0, in their order; -1 stays."""
    present = np.unique(instance[instance >= 0])
    return np.where(instance >= 0, np.searchsorted(present, instance), -1)


def _keys(dataset: Dataset, target: Path) -> Texts:
    """The keys of a dataset that can be packed into `target`."""
    if target.suffix != SUFFIX:
        raise InputError(f"a packed dataset ends in {SUFFIX}, got {target.name!r}: say {target.with_suffix(SUFFIX).name}")
    if not len(dataset):
        raise InputError(f"{dataset.name} has no image to pack")
    keys = Texts.of(dataset.key(i) for i in range(len(dataset)))
    if fault := unfit(keys):
        raise InputError(f"{dataset.name} cannot be packed: {fault}; name the files by UTF-8 paths inside one folder")
    return keys


def _sources(dataset: Dataset, keys: Texts, options: Mapping[str, int | None], *, progress: bool) -> NDArray[np.uint64]:
    """A digest for each image [n], of all that its bytes in the file depend on: options, modality, key, and size and time of its file.

    An image that is in no file has its pixels in place of these.
    """
    pictures = dataset.reader.pictures if isinstance(dataset.reader, Files) else None

    def source(i: int) -> int:
        picture = None if pictures is None else pictures[int(dataset.index[i])]
        if isinstance(picture, str):
            status = os.stat(dataset.path(i))
            content = f"{status.st_size} {status.st_mtime_ns}".encode()
        else:
            image = dataset.read(i)
            content = f"{image.mode} {image.size}".encode() + image.tobytes()
        return xxhash.xxh3_64_intdigest(f"{dict(options)} {dataset.modality[i]} {keys[i]} ".encode() + content)

    every = range(len(dataset))
    rows = track(every, total=len(every), label="looking at files") if progress else every
    try:
        return np.fromiter(map(source, rows), np.uint64, len(every))
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read ({error.strerror}): check the path") from error


def _about(dataset: Dataset, keys: Texts, sources: NDArray[np.uint64]) -> About:
    about = About(
        name=dataset.name,
        source="",
        split_name=UNSPLIT if dataset.split is None else dataset.split_name,
        split_digest="" if dataset.split is None else dataset.split_digest,
        categories=list(dataset.categories),
        splits={name: Published.model_validate(dict(entry)) for name, entry in dataset.splits.items()},
    )
    xxh3 = xxhash.xxh3_128(about.model_dump_json(exclude_unset=True).encode())
    for array in (sources, keys.starts, keys.buffer, dataset.category, dataset.instance, dataset.split):
        if array is not None:
            xxh3.update(np.ascontiguousarray(array).tobytes())
    return about.model_copy(update={"source": xxh3.hexdigest()})


def _refuse_other(target: Path, about: About) -> None:
    """Raise InputError where a file is not that of these images, labels and options."""
    if PackedImages(target, 2**62).about.source != about.source:
        raise InputError(f"{str(target)!r} is there, of other images, labels or options: remove it, or choose another file")


def _work(target: Path) -> Path:
    """The folder of the unfinished file, beside its target."""
    work = target.parent / f".{target.name}.packing"
    try:
        work.mkdir(parents=True, exist_ok=True)
        if work.is_symlink() or (hasattr(os, "getuid") and work.stat().st_uid != os.getuid()):
            raise InputError(f"{str(work)!r} is another user's, or a link: choose another folder")
    except OSError as error:
        raise InputError(f"{str(target)!r} could not be written ({error.strerror}): choose another folder") from error
    return work


def _threads(dataset: Dataset) -> int:
    return cores() if dataset.threads > 1 else 1


def _fill(building: Building, dataset: Dataset, shrinking: Shrinking, workers: int, *, progress: bool) -> None:
    """Append all images that are not there yet, in order."""

    def job(i: int) -> Encoded:
        try:
            return shrinking(dataset.read(i), int(dataset.modality[i]))
        except OSError as error:  # Pillow's, for an image that JPEG cannot hold
            raise InputError(f"{dataset.path(i)} cannot be packed ({error})") from error

    rest = range(building.count, len(dataset))
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Encoded]] = deque()
        try:
            for i in track(rest, total=len(rest), label=f"packing {dataset.name}") if progress else rest:
                waiting.append(pool.submit(job, i))
                if len(waiting) > AHEAD * workers:
                    building.add(waiting.popleft().result())
            while waiting:
                building.add(waiting.popleft().result())
        finally:
            for future in waiting:
                future.cancel()
