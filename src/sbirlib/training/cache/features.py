"""Batches of cached features in place of images, for a phase that freezes what makes them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from sbirlib.data.batches import load
from sbirlib.files import user_cache
from sbirlib.interfaces import Batch
from sbirlib.training.cache.checks import encoder_and_path
from sbirlib.training.cache.entry import Entry
from sbirlib.training.cache.store import FeatureStore, prune
from sbirlib.training.checkpoint import digest
from sbirlib.training.plan import PhasePlan, Plan, eval_mode

if TYPE_CHECKING:
    from sbirlib.training.source import Source
    from sbirlib.training.steps import Batches

logger = logging.getLogger(__name__)
FORMAT = 1
LIMIT = 20 * 2**30  # bytes that the features of all runs take at most; those that were not used for longest go first
TRIAL = 4  # images by which it is seen what runs before the module


@dataclass(frozen=True)
class FeatureCache:
    """Features of a phase's training images, made where they are missing.

    Image i in epoch e has draw e mod `draws` of the augmentation, which is the one that the image would have in that epoch without a cache.
    """

    entry: Entry
    store: FeatureStore
    draws: int
    encode: Callable[[Batch], torch.Tensor]
    source: Source

    @classmethod
    def of(cls, plan: Plan, this: PhasePlan, source: Source) -> FeatureCache:
        """The cache of a phase: its folder is named by all that its features depend on."""
        cache = this.phase.cache
        assert cache is not None
        batch = source.first(this.sampler)[:TRIAL]

        def encode(images: Batch) -> torch.Tensor:
            with (
                eval_mode(plan.model),
                torch.autocast(images.images.device.type, torch.bfloat16, enabled=plan.recipe.precision == "bfloat16"),
            ):
                return entry.features(images)

        with eval_mode(plan.model):
            entry = Entry(*encoder_and_path(plan.model, this.phase), batch)
        shape = tuple(encode(batch).shape[1:])
        about = {"format": FORMAT, "module": cache.module, "draws": cache.draws, "shape": shape, **_inputs(plan, entry, source)}
        folder = user_cache() / "features" / hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
        store = FeatureStore(folder, len(source.prepared) * cache.draws, shape, about)
        os.utime(folder)
        prune(folder.parent, folder, LIMIT)
        logger.info("features of %s are kept in %s: up to %.2f GB; delete it at any time", cache.module, folder, store.bytes / 1e9)
        return cls(entry, store, cache.draws, encode, source)

    def batches(self, shares: Sequence[Sequence[int]], epoch: int) -> Iterator[Batch]:
        """Batches of these images, with features [B, ...] as images."""
        source, prepared, draw = self.source, self.source.prepared, epoch % self.draws
        for share in shares:
            rows = np.asarray(share, dtype=np.int64)
            features, there = self.store.read(rows * self.draws + draw)
            if not there.all():
                missing = np.unique(rows[~there])
                images = next(load(prepared, [missing.tolist()], seed=source.seed, epoch=draw, workers=0, device=source.device))
                fresh = self.encode(images).cpu()
                self.store.write(missing * self.draws + draw, fresh)
                features[~there] = fresh[np.searchsorted(missing, rows[~there])]
            index = torch.from_numpy(rows)
            labels = (labels[index] for labels in (prepared.modality, prepared.category, prepared.instance))
            yield Batch(features, *labels).to(source.device)


def _inputs(plan: Plan, entry: Entry, source: Source) -> dict[str, Any]:
    """All that features depend on: weights and structure of what makes them, images, transform, seed and arithmetic."""
    tensors = {f"{i}.{name}": tensor for i, module in enumerate(entry.below) for name, tensor in module.state_dict().items()}
    fronts = {f"{name}.{i}": getattr(front, name) for i, front in enumerate(entry.fronts) for name in ("mean", "std")}
    return {
        "weights": digest(tensors | fronts, [*map(repr, entry.below), [front.size for front in entry.fronts]]),
        "images": source.prepared.digest(),
        "transform": plan.recipe.tables()["transform"],
        "seed": source.seed,
        "precision": plan.recipe.precision,
    }


@contextmanager
def with_features(plan: Plan, this: PhasePlan, batches: Batches) -> Iterator[tuple[Batches, Entry | None]]:
    """The batches of a phase, with features as images where it has a cache, and the entry into its encoder by which they go in."""
    if this.phase.cache is None or not this.phase.steps:
        yield batches, None
        return
    source = cast("Source", batches)
    cache = FeatureCache.of(plan, this, source)
    try:
        yield replace(source, features=cache), cache.entry
    finally:
        cache.store.close()
