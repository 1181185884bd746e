"""Resumable encoding of any number of images into files of vectors, shared among processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import images
from sbirlib.device import find_device
from sbirlib.errors import InputError
from sbirlib.pipeline import Pipeline
from sbirlib.processes import launched
from sbirlib.retrieval.encode import encode
from sbirlib.retrieval.indexes.shards import Shard, Value, read_shard, write_shard
from sbirlib.search import SearchIndex, records
from sbirlib.spec import part
from sbirlib.sync.intake import Intake
from sbirlib.sync.source import STEM, read_sources, write_sources

FILES = "part-*-of-*.safetensors"


def encode_to(
    pipeline: Pipeline,
    pictures: Any,
    out: str | Path,
    *,
    side: Literal["query", "gallery"] = "gallery",
    fields: Mapping[str, Mapping[str, Value]] | None = None,
    rows: int = 8192,
    device: str | None = None,
    batch_size: int = 128,
    progress: bool = True,
) -> list[Path]:
    """Write vectors of images (a dataset, a folder, or paths) into `out`, `rows` to a file; return the files of this process.

    `side` is the side of the retrieval that the vectors are for, "query" [n, S, V] or "gallery" [n, V]. Under torchrun each process
    writes every WORLD_SIZE-th file. A complete file of the same images and the same encoder is kept, so the same call resumes after a
    stop. A folder of other vectors is refused.

    >>> [file.name for file in encode_to(pipeline, "photos", "vectors", rows=18, progress=False)]
    ['part-00000-of-00002.safetensors', 'part-00001-of-00002.safetensors']
    >>> len(index_encoded(pipeline, "vectors"))
    36
    """
    dataset = pictures if isinstance(pictures, Dataset) else images(pictures, modality="sketch" if side == "query" else "photo")
    if rows < 1:
        raise InputError(f"a file holds at least one row, got rows={rows}")
    rank, world = launched()
    pipeline.model.load_weights()
    place = find_device(device)
    count, digest, entries = -(-len(dataset) // rows), pipeline.encoder_digest(), records(dataset, fields)
    folder, files = Path(out), []
    expected = {_name(number, count) for number in range(count)}
    for other in folder.glob(FILES):
        if other.name not in expected:
            raise InputError(
                f"{folder} holds {other.name}, which is not of these {len(dataset)} images: choose another folder, or empty it"
            )
    for number in range(rank, count, world):
        batch = slice(number * rows, (number + 1) * rows)
        path = folder / _name(number, count)
        if not _complete(path, entries[batch], digest):
            intake = Intake(dataset.subset(batch))
            encoded = encode(
                pipeline.encoder, intake.dataset, pipeline.transform, side=side, batch_size=batch_size, device=place, progress=progress
            )
            if side == "gallery":
                write_sources(_beside(path), intake.sources)  # before the vectors, whose file says that all is complete
            write_shard(path, Shard(encoded.vectors.numpy(), entries[batch], digest))
        files.append(path)
    return files


def read_encoded(folder: str | Path, *, digest: str | None = None) -> list[Shard]:
    """All shards that `encode_to` wrote into a folder, in order, each held against its digest; with `digest`, they must be of that encoder."""
    place = Path(folder)
    files = sorted(place.glob(FILES))
    if not files:
        raise InputError(f"{place} holds no vectors ({FILES}): make them with `sbirlib encode MODEL IMAGES --out {place}`")
    count = int(files[0].stem.rpartition("-")[2])
    missing = [n for n in range(count) if not (place / _name(n, count)).is_file()]
    if missing or len(files) != count:
        raise InputError(
            f"{place} should hold {count} files and misses {len(missing)}, such as number {missing[:1]}: run the same command again"
        )
    shards = [read_shard(file, verify=True) for file in files]
    for file, shard in zip(files, shards, strict=True):
        if digest is not None and shard.encoder != digest:
            raise InputError(
                f"{file} was made by another encoder ({shard.encoder[:12]}) than this one ({digest[:12]}): encode the photos again"
            )
    return shards


def index_encoded(pipeline: Pipeline, folder: str | Path, *, kind: str | Mapping[str, Any] = "flat") -> SearchIndex:
    """An index over the vectors that `encode_to` wrote with the same encoder."""
    search_index = pipeline.search_index(part("index", kind))
    for shard in read_encoded(folder, digest=search_index.digest):
        search_index.index.add(torch.from_numpy(shard.vectors.copy()), shard.records)
        if shard.source and (sources := _beside(shard.source)).is_file():
            search_index.sources.update(read_sources(sources))
    return search_index


def _beside(shard: Path) -> Path:
    """The file of the sources of a shard's photos."""
    return shard.with_name(shard.name.replace("part", STEM, 1))


def _name(number: int, count: int) -> str:
    return f"part-{number:05d}-of-{count:05d}.safetensors"


def _complete(path: Path, entries: list[Any], digest: str) -> bool:
    """Whether the file is a readable shard; an `InputError` if it is one of other images or of another encoder."""
    if not path.is_file():
        return False
    try:
        shard = read_shard(path, verify=True)
    except InputError:
        return False
    if shard.encoder != digest or list(shard.records) != entries:
        raise InputError(f"{path} is of other images or another encoder: choose another folder, or empty it")
    return True
