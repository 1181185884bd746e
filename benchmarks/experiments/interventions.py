"""Interventions: faults planted into a method, which must lose its gain by them, and answers given to it, which show how much there is to gain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sbirlib import registry
from sbirlib.errors import InputError, nearest
from sbirlib.features import Triplets
from sbirlib.interfaces import Features, Step
from sbirlib.pipeline import Pipeline

SOLID = 3  # pixels of ink with ink on all four sides, above which a sketch of 32 pixels is shaded: right for 95 % of the world of traits


def intervention(name: str, pipeline: Pipeline) -> AbstractContextManager[Any]:
    """Block in which the intervention of this name is made to a pipeline; empty: none."""
    if not name:
        return nullcontext()
    if name not in INTERVENTIONS:
        raise InputError(f"there is no intervention {name!r}{nearest(name, INTERVENTIONS)}")
    return INTERVENTIONS[name](pipeline)


@contextmanager
def permuted_gates(pipeline: Pipeline) -> Iterator[None]:
    """VTD, a fault: each sketch has the descriptor of its neighbour in the batch, once the descriptor is trained; it stays so in evaluation."""
    change_descriptors(pipeline, lambda embedding, _: embedding.roll(1, 0))
    yield


@contextmanager
def known_manner(pipeline: Pipeline) -> Iterator[None]:
    """VTD, an answer: the descriptor is one of two codes, of contours or of shading (the world of traits), once it is trained."""

    def coded(embedding: Tensor, images: Tensor) -> Tensor:
        return nn.functional.one_hot((solid_ink(images) > SOLID).long(), embedding.shape[1]).to(embedding.dtype)

    change_descriptors(pipeline, coded)
    yield


@contextmanager
def idle_discriminator(_: Pipeline) -> Iterator[None]:
    """ACNet, a fault: the discriminator's turn is left out, so it stays as it began."""

    def nothing(loss: Any, _: Step) -> Tensor:
        return torch.stack([0 * parameter.sum() for parameter in loss.discriminator.parameters()]).sum()

    kind: Any = registry.import_entry("loss", "patch_adversary")  # the losses themselves are made when training starts
    turn, kind.discriminator_loss = kind.discriminator_loss, nothing
    try:
        yield
    finally:
        kind.discriminator_loss = turn


@contextmanager
def permuted(pipeline: Pipeline, side: str) -> Iterator[None]:
    """MATHM, a fault: each anchor has the positive, or the negative, that was mined for the anchor half a batch away."""

    def moved(_: nn.Module, __: Any, triplets: dict[str, Triplets]) -> dict[str, Triplets]:
        return {kind: replace(t, **{side: getattr(t, side).roll(len(t) // 2)}) for kind, t in triplets.items()}

    miner: Any = pipeline.model.miner
    handle = miner.register_forward_hook(moved)
    try:
        yield
    finally:
        handle.remove()


def change_descriptors(pipeline: Pipeline, change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Change descriptors [B, M] of images [B, 3, H, W], except in the phase that trains their encoder."""

    def changed(module: nn.Module, inputs: tuple[Any], features: Features) -> Features:
        learns = module.training and any(parameter.requires_grad for parameter in module.parameters())
        return features if learns else replace(features, embedding=change(features.embedding, inputs[0].images))

    pipeline.encoder.get_submodule("descriptor").register_forward_hook(changed)


def solid_ink(images: Tensor) -> Tensor:
    """Pixels of ink whose four neighbours are ink too, of images [B, 3, H, W] in [0, 1]: [B]."""
    ink = images.mean(1) < 0.5
    inner = ink[:, 1:-1, 1:-1] & ink[:, :-2, 1:-1] & ink[:, 2:, 1:-1] & ink[:, 1:-1, :-2] & ink[:, 1:-1, 2:]
    return inner.sum((1, 2))


INTERVENTIONS: dict[str, Callable[[Pipeline], AbstractContextManager[Any]]] = {
    "permuted_gates": permuted_gates,
    "known_manner": known_manner,
    "idle_discriminator": idle_discriminator,
    "permuted_negatives": partial(permuted, side="negative"),
    "permuted_positives": partial(permuted, side="positive"),
}
