"""Batch norms before the first step: recalibration, and a warning where training would make a pretrained network another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial

from sbirlib.encoders.backbone import Backbone
from sbirlib.encoders.norms import batch_norms, recalibrate
from sbirlib.gather import lengths
from sbirlib.interfaces import Batch, Encoder, Sampler
from sbirlib.training.gradient_cache import chunks_of
from sbirlib.training.plan import Plan, eval_mode

logger = logging.getLogger(__name__)
IMAGES = 512  # least number, over all processes, whose statistics batch norms take


def prepare_norms(plan: Plan, batches_of: Callable[[Sampler], Iterator[Batch]]) -> None:
    """Recalibrate the backbones that ask for it and were not yet, on a sampler's first batches, and warn of folded norms that would train."""
    backbones = {name: module for name, module in plan.model.named_modules() if isinstance(module, Backbone)}
    due = [backbone for backbone in backbones.values() if backbone.recalibrate and not backbone.recalibrated]
    if due:
        with eval_mode(plan.model):
            recalibrate([norm for backbone in due for norm in batch_norms(backbone.backbone)], partial(_encode, plan, batches_of))
        for backbone in due:
            backbone.recalibrated.fill_(True)
    for name, backbone in backbones.items():
        if backbone.folded and not backbone.recalibrate:
            _warn(plan, name, backbone)


def _encode(plan: Plan, batches_of: Callable[[Sampler], Iterator[Batch]]) -> None:
    """Encode training images as the phases do: each encoder those of its sampler, once where phases have both in common."""
    sources = []
    for this in plan.phases:
        source = (this.phase.encoder or "", this.phase.sampler)
        if not this.phase.steps or source in sources:
            continue
        sources.append(source)
        encoder: Encoder = plan.model.encoder.get_submodule(source[0])  # type: ignore[assignment]
        count = 0
        for batch in batches_of(this.sampler):
            for rows in chunks_of(len(batch), this.phase.chunk or len(batch)):
                encoder(batch[rows])
            count += sum(lengths(len(batch)))
            if count >= IMAGES:
                break


def _warn(plan: Plan, name: str, backbone: Backbone) -> None:
    """Warn where a phase trains folded batch norms with the statistics of batches, which they have never had."""
    norms = batch_norms(backbone.backbone)
    for number, this in enumerate(plan.phases):
        if this.phase.steps and not this.rules.live_norms.isdisjoint(norms):
            logger.warning(
                "phases.%d trains the batch norms of %s (%s) with the statistics of batches, and the weights have all %d of them folded into the "
                "convolutions: the first step makes it another network. Give the encoder recalibrate = true, or the phase a rule that keeps "
                "them as they are, parameters = [{ of = \"%s\", eval = true }]",
                number, name, backbone.name, len(norms), f"{name}.backbone",
            )  # fmt: skip
            return
