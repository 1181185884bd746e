"""Checks of samplers."""

from __future__ import annotations

import torch

from sbirlib.testing.subject import Subject, require
from sbirlib.testing.world import separable


def is_a_pure_function(subject: Subject) -> None:
    """The same seed and epoch give the same batches of indices in range, another epoch others, and no global generator is touched."""
    sampler, labels = subject.make(), separable(categories=20)
    before = torch.get_rng_state()
    batches = sampler.batches(labels, seed=0, epoch=0)
    require(bool(batches) and all(batches), f"{subject.id}: gives no batch, or an empty one")
    inside = all(isinstance(i, int) and 0 <= i < len(labels) for rows in batches for i in rows)
    require(inside, f"{subject.id}: its batches hold more than ints within 0..{len(labels) - 1}")
    require(batches == sampler.batches(labels, seed=0, epoch=0), f"{subject.id}: one seed and epoch give other batches the second time")
    require(batches != sampler.batches(labels, seed=0, epoch=1), f"{subject.id}: every epoch has the same batches")
    require(torch.equal(before, torch.get_rng_state()), f"{subject.id}: draws from torch's global generator: take one of your own")


CHECKS = (is_a_pure_function,)
