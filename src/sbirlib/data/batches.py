"""Batch loading: an in-memory cache of prepared images, and augmentation that depends on (seed, epoch, index) alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sbirlib.data.dataset import Dataset
from sbirlib.interfaces import Batch, Transform
from sbirlib.progress import track

CACHE_BYTES = 2 * 2**30


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

    def warm(self, rows: Iterable[int] | None = None, *, progress: bool = True) -> None:
        """Fill the cache, if there is one, with the images `rows` (default: all); `progress` shows a bar after two seconds."""
        if self.cache is None:
            return
        missing = [i for i in (range(len(self)) if rows is None else sorted(set(rows))) if not self.ready[i]]
        with ThreadPoolExecutor(self.dataset.threads) as pool:
            results = pool.map(self.image, missing)
            for _ in track(results, total=len(missing), label="reading images") if progress else results:
                pass


def load(
    prepared: Prepared,
    index_lists: Sequence[Sequence[int]],
    *,
    seed: int,
    epoch: int,
    augment: bool = True,
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """Yield a batch for each list of indices: images float32 [B, 3, S, S] in [0, 1], on the device.

    The number of workers changes the speed alone. torch's global random state is restored.
    """
    batches = _Batches(prepared, index_lists, seed, epoch, augment)
    if workers > 0:
        prepared.warm(i for rows in index_lists for i in rows)  # once in this process, instead of once in every worker
        generator = torch.Generator()  # without it the loader would draw from the global one
        source: Iterable[Batch] = DataLoader(batches, batch_size=None, num_workers=workers, generator=generator)
    else:
        source = (batches[b] for b in range(len(batches)))
    for batch in source:
        on_device = batch.to(device)
        yield replace(on_device, images=on_device.images.float().div_(255))


class _Batches(torch.utils.data.Dataset[Batch]):
    """Batches by position, with uint8 images, a quarter of the bytes to move between processes and to the device."""

    def __init__(self, prepared: Prepared, index_lists: Sequence[Sequence[int]], seed: int, epoch: int, augment: bool) -> None:
        self.prepared, self.index_lists, self.seed, self.epoch, self.augment = prepared, index_lists, seed, epoch, augment

    def __len__(self) -> int:
        return len(self.index_lists)

    def __getitem__(self, b: int) -> Batch:
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
                    generator.manual_seed(mix(self.seed, self.epoch, i))
                    image = prepared.transform.augment(image, int(prepared.dataset.modality[i]))
                target.copy_(image)
        finally:
            torch.set_num_threads(threads)
            generator.set_state(before)
        index = torch.as_tensor(rows, dtype=torch.int64)
        return Batch(images, prepared.modality[index], prepared.category[index], prepared.instance[index])


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
