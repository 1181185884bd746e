"""Features on disk: rows of one shape by number, each with its digest."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.files import atomic_write

ABOUT, FEATURES, DIGESTS = "about.json", "features.bin", "digests.bin"


class FeatureStore:
    """Float32 rows [N, *shape] in a folder; one that is missing, or whose digest is not that of its content, counts as not there.

    The file is as long as all rows from the start, and takes the room of those that were written. Several processes may read and write it:
    a row that two write at once is there once both have ended, or not at all.
    """

    def __init__(self, folder: Path, rows: int, shape: tuple[int, ...], about: Mapping[str, Any]) -> None:
        self.folder, self.shape, self.size = folder, shape, 4 * math.prod(shape)
        self.bytes = rows * self.size
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.files = {name: _sized(folder / name, length) for name, length in ((FEATURES, self.bytes), (DIGESTS, 8 * rows))}
            if not (folder / ABOUT).is_file():
                with atomic_write(folder / ABOUT) as partial:
                    partial.write_text(json.dumps(about, indent=1))
        except OSError as error:
            raise self._error(error) from error
        self.features: NDArray[np.float32] = np.memmap(folder / FEATURES, np.float32, "r", shape=(rows, math.prod(shape)))
        self.digests: NDArray[np.uint64] = np.memmap(folder / DIGESTS, np.uint64, "r", shape=(rows,))

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.bool_]]:
        """Features [B, *shape] of rows [B], and which of them are there [B]."""
        features = self.features[rows]
        there = np.array([xxhash.xxh3_64_intdigest(row.data) == digest for row, digest in zip(features, self.digests[rows], strict=True)])
        return torch.from_numpy(features).reshape(-1, *self.shape), there.reshape(-1)

    def write(self, rows: NDArray[np.int64], features: Tensor) -> None:
        """Write features [B, *shape] of rows [B]. Raises InputError where the disk is full."""
        for row, content in zip(rows.tolist(), features.cpu().contiguous().flatten(1).numpy(), strict=True):
            try:
                _write(self.files[FEATURES], content.tobytes(), row * self.size)
                _write(self.files[DIGESTS], np.uint64(xxhash.xxh3_64_intdigest(content.data)).tobytes(), 8 * row)
            except OSError as error:
                raise self._error(error) from error

    def close(self) -> None:
        for file in self.files.values():
            os.close(file)

    def _error(self, error: OSError) -> InputError:
        return InputError(
            f"features could not be kept in {self.folder} ({error.strerror}): they may take {self.bytes / 1e9:.1f} GB; make room, name another "
            "cache folder by XDG_CACHE_HOME, take fewer draws, or leave cache out"
        )


def prune(root: Path, keep: Path, limit: int) -> None:
    """Remove the stores of a folder that were written longest ago, until the others take at most `limit` bytes; `keep` stays.

    A process that has one of them open goes on with it.
    """
    stores = sorted((path for path in root.glob("*") if path.is_dir()), key=lambda path: path.stat().st_mtime if path != keep else math.inf)
    sizes = {path: sum(512 * file.stat().st_blocks for file in path.iterdir()) for path in stores}
    for path in stores:
        if sum(sizes.values()) <= limit or path == keep:
            return
        sizes.pop(path)
        shutil.rmtree(path, ignore_errors=True)


def _sized(path: Path, length: int) -> int:
    """Descriptor of a file of this length in bytes, which is made where it is not there."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    if os.fstat(file).st_size != length:
        os.ftruncate(file, length)
    return file


def _write(file: int, content: bytes, place: int) -> None:
    while content:  # a signal may cut a write short
        count = os.pwrite(file, content, place)
        content, place = content[count:], place + count
