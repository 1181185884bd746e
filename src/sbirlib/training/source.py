"""Batches of a prepared dataset for training, from any position on: the share of this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from sbirlib.data.batches import Prepared, load
from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Sampler
from sbirlib.processes import rank, world_size
from sbirlib.training.cache.features import FeatureCache
from sbirlib.training.plan import share
from sbirlib.training.steps import Position


@dataclass
class Waiting:
    """Seconds spent waiting for batches."""

    seconds: float = 0.0


@dataclass(frozen=True)
class Source:
    """Batches of a prepared dataset from any position on, this process's share of each; with `features` in place of images where there are."""

    prepared: Prepared
    seed: int
    workers: int | None
    device: torch.device
    waiting: Waiting = field(default_factory=Waiting)
    features: FeatureCache | None = None

    def __call__(self, sampler: Sampler, start: Position) -> Iterator[tuple[Position, Batch, bool]]:
        """Yield the position after a batch, the batch, and whether it is the last of its epoch, without end."""
        epoch, first = start.epoch, start.batch
        while True:
            lists = sampler.batches(self.prepared.dataset, seed=self.seed, epoch=epoch)
            if first > max(len(lists) - 1, 0):
                raise InputError(
                    f"batch {first} of epoch {epoch} was to be next, and there are {len(lists)}: the checkpoint is of other data"
                )
            shares = [share(indices, rank(), world_size()) for indices in lists[first:]]
            for number, batch in enumerate(self._loaded(shares, epoch), first + 1):
                last = number == len(lists)
                yield Position(epoch=epoch + last, batch=0 if last else number), batch, last
            epoch, first = epoch + 1, 0

    def first(self, sampler: Sampler) -> Batch:
        """The first batch of all, read in this process."""
        return next(replace(self, workers=0)(sampler, Position()))[1]

    def images(self, sampler: Sampler) -> int:
        """Images of this process in a full batch."""
        return max(len(batch) for batch in sampler.batches(self.prepared.dataset, seed=self.seed, epoch=0)) // world_size()

    def _loaded(self, shares: Sequence[Sequence[int]], epoch: int) -> Iterator[Batch]:
        """Batches of these images, with the time that they are waited for."""
        if self.features is not None:
            batches = self.features.batches(shares, epoch)
        else:
            batches = load(self.prepared, shares, seed=self.seed, epoch=epoch, workers=self.workers, device=self.device)
        while True:
            start = time.monotonic()
            batch = next(batches, None)
            self.waiting.seconds += time.monotonic() - start
            if batch is None:
                return
            yield batch
