"""Batch loading: an in-memory cache of prepared images, and augmentation that depends on (seed, epoch, index) alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import xxhash
from torch import Tensor
from torch.utils.data import DataLoader

from sbirlib.data.dataset import Dataset
from sbirlib.interfaces import Batch, Transform
from sbirlib.progress import track
from sbirlib.threads import cores

CACHE_BYTES = 2 * 2**30
MOST_WORKERS = 16
PAIRED = 1  # keeps seeds of instances apart from those of images


class Prepared:
    """A dataset with its transform applied: uint8 images [3, S, S], cached in memory if all n of them fit into 2 GiB.

    >>> Prepared(dataset, pipeline.transform).image(0).shape
    torch.Size([3, 32, 32])
    """

    def __init__(self, dataset: Dataset, transform: Transform) -> None:
        self.dataset, self.transform = dataset, transform
        shape = (len(dataset), 3, transform.size, transform.size)
        self.cache = torch.empty(shape, dtype=torch.uint8) if np.prod(shape) <= CACHE_BYTES else None
        self.ready = np.zeros(len(dataset), dtype=bool)
        self.modality, self.category, self.instance = (
            torch.from_numpy(np.asarray(labels, dtype=np.int64)) for labels in (dataset.modality, dataset.category, dataset.instance)
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, i: int) -> Tensor:
        """The prepared image i, uint8 [3, S, S]; do not write into it."""
        if self.cache is None:
            return self.transform.prepare(self.dataset.read(i), int(self.dataset.modality[i]))
        if not self.ready[i]:
            self.cache[i] = self.transform.prepare(self.dataset.read(i), int(self.dataset.modality[i]))
            self.ready[i] = True
        return self.cache[i]

    def digest(self) -> str:
        """XXH3-128 of the prepared images where they are cached in memory; else of the paths, lengths and times of change of their files."""
        xxh3 = xxhash.xxh3_128()
        if self.cache is not None:
            self.warm(progress=False)
            xxh3.update(self.cache.numpy().data)
            return xxh3.hexdigest()
        for i in range(len(self)):
            path = self.dataset.path(i)
            file = os.stat(path) if os.path.isfile(path) else None
            xxh3.update(repr((path, file and (file.st_size, file.st_mtime_ns))).encode())
        return xxh3.hexdigest()

    def warm(self, rows: Iterable[int] | None = None, *, progress: bool = True) -> None:
        """Fill the cache, if there is one, with the images `rows` (default: all); `progress` shows a bar after two seconds."""
        if self.cache is None:
            return
        missing = [i for i in (range(len(self)) if rows is None else sorted(set(rows))) if not self.ready[i]]
        with ThreadPoolExecutor(self.dataset.threads) as pool:
            results = pool.map(self.image, missing)
            for _ in track(results, total=len(missing), label="reading images") if progress else results:
                pass


def default_workers(prepared: Prepared) -> int:
    """Processes that read images where the caller names no number: none where the cache holds all images, else a core each, but one.

    One core is left to the training. Of several processes on a machine (LOCAL_WORLD_SIZE) each has its share of the cores.
    """
    if prepared.cache is not None:
        return 0
    share = cores() // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return min(max(share - 1, 1 if cores() > 1 else 0), MOST_WORKERS)


def load(
    prepared: Prepared,
    index_lists: Sequence[Sequence[int]],
    *,
    seed: int,
    epoch: int,
    augment: bool = True,
    workers: int | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """Yield a batch for each list of indices: images float32 [B, 3, S, S] in [0, 1], on the device.

    The number of workers (default: `default_workers`) changes the speed alone: they prepare the next batches meanwhile, in pinned memory
    where the device is a GPU. Without workers each batch is prepared when it is asked for, as augmentation draws from torch's global random
    state, which a thread would share with the caller; that state is restored.
    """
    device = torch.device(device)
    batches = _Batches(prepared, index_lists, seed, epoch, augment)
    if workers is None:
        workers = default_workers(prepared)
    if workers > 0:
        prepared.warm(i for rows in index_lists for i in rows)  # once in this process, instead of once in every worker
        generator = torch.Generator()  # without it the loader would draw from the global one
        pinned = device.type == "cuda"
        source: Iterable[list[Tensor]] = DataLoader(batches, batch_size=None, num_workers=workers, generator=generator, pin_memory=pinned)
    else:
        source = (batches[b] for b in range(len(batches)))
    for images, *labels in source:
        images, *labels = (tensor.to(device, non_blocking=True) for tensor in (images, *labels))
        yield Batch(images.float().div_(255), *labels)


class _Batches(torch.utils.data.Dataset[list[Tensor]]):
    """Batches by position: uint8 images, a quarter of the bytes to move between processes and to the device, and the labels."""

    def __init__(self, prepared: Prepared, index_lists: Sequence[Sequence[int]], seed: int, epoch: int, augment: bool) -> None:
        self.prepared, self.index_lists, self.seed, self.epoch, self.augment = prepared, index_lists, seed, epoch, augment

    def __len__(self) -> int:
        return len(self.index_lists)

    def __getitem__(self, b: int) -> list[Tensor]:
        rows, prepared = self.index_lists[b], self.prepared
        size = prepared.transform.size
        images = torch.empty((len(rows), 3, size, size), dtype=torch.uint8)
        generator = torch.default_generator  # torch.manual_seed would also touch the devices
        before, threads = generator.get_state(), torch.get_num_threads()
        torch.set_num_threads(1)  # intra-op threads cost more than they save on one small image
        try:
            for target, i in zip(images, rows, strict=True):
                image = prepared.image(i)
                if self.augment:
                    generator.manual_seed(self._seed(i))
                    image = prepared.transform.augment(image, int(prepared.dataset.modality[i]))
                target.copy_(image)
        finally:
            torch.set_num_threads(threads)
            generator.set_state(before)
        index = torch.as_tensor(rows, dtype=torch.int64)
        return [images, prepared.modality[index], prepared.category[index], prepared.instance[index]]

    def _seed(self, i: int) -> int:
        """Seed of the random change of image i: that of its instance where the transform is `paired`."""
        instance = int(self.prepared.dataset.instance[i])
        if getattr(self.prepared.transform, "paired", False) and instance >= 0:
            return mix(self.seed, self.epoch, PAIRED, instance)
        return mix(self.seed, self.epoch, i)


def mix(*numbers: int) -> int:
    """Hash integers to one of 64 bits, each bit of which depends on all of them (splitmix64, Steele et al. 2014)."""
    mask = 2**64 - 1
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state
