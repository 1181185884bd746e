"""Gradient caching: losses over a large batch in the memory of a chunk of it (Gao et al. 2021, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from sbirlib.gather import in_order, lengths
from sbirlib.interfaces import Batch, Features
from sbirlib.training.randomness import random_state, set_random_state


class GradientCache:
    """Features of a batch, encoded chunk by chunk without a graph, and the backward pass through the encoder, chunk by chunk.

    A chunk is encoded a second time for its graph, with the same random draws, and back-propagates the gradients of its features. Equal to the
    whole batch, but for batch norms that train, of which each chunk has statistics of its own, counted once, and for random draws, which are made
    for each chunk.

    `features` are leaves, [N, ...] each, whose gradients `backward` reads.
    """

    def __init__(self, encode: Callable[[Batch], Features], encoder: nn.Module, batch: Batch, size: int) -> None:
        self.encode, self.encoder = encode, encoder
        self.chunks = [batch[rows] for rows in chunks_of(len(batch), size)]
        self.states: list[dict[str, Tensor]] = []
        parts = []
        with torch.no_grad():
            for chunk in self.chunks:
                self.states.append(random_state(batch.images.device))
                parts.append(encode(chunk))
        self.counts = [len(part) for part in parts]
        joined, self.order = join(parts, [len(chunk) for chunk in self.chunks])
        self.leaves: list[Tensor] = []
        self.features = _map(joined, self._leaf)

    def _leaf(self, values: Tensor) -> Tensor:
        if values.is_floating_point():
            values = values.detach().requires_grad_()
            self.leaves.append(values)
        return values

    def backward(self) -> None:
        """Add the gradients of the encoder's parameters, from those of the features [N, ...]."""
        if all(leaf.grad is None for leaf in self.leaves):
            return
        device = self.chunks[0].images.device
        after, buffers = random_state(device), {name: value.clone() for name, value in self.encoder.named_buffers()}
        back = self.order.argsort()
        for number, chunk in enumerate(self.chunks):
            set_random_state(self.states[number], device)
            self._backward(self.encode(chunk), number, back)
        set_random_state(after, device)
        for name, value in self.encoder.named_buffers():
            value.copy_(buffers[name])

    def _backward(self, features: Features, number: int, back: Tensor) -> None:
        """The backward pass of one chunk, whose rows are `back` [N] of the joined ones."""
        rows = back[sum(self.counts[:number]) : sum(self.counts[: number + 1])]
        first = sum(len(chunk) for chunk in self.chunks[:number])
        images = slice(first, first + len(self.chunks[number]))
        outputs: list[Tensor] = []

        def note(values: Tensor) -> Tensor:
            if values.is_floating_point():
                outputs.append(values)
            return values

        _map(features, note)
        of_rows = len(outputs) - sum(value.is_floating_point() for value in features.images.values())
        pairs = [
            (output, leaf.grad[rows if i < of_rows else images])
            for i, (output, leaf) in enumerate(zip(outputs, self.leaves, strict=True))
            if output.requires_grad and leaf.grad is not None
        ]
        if pairs:
            torch.autograd.backward([output for output, _ in pairs], [gradient for _, gradient in pairs])


def chunks_of(images: int, size: int) -> list[slice]:
    """Chunks of at most `size` of so many images, whose sizes differ by one at most: batch norms would see little in a small last one.

    There are as many in every process, since batch norms and draws need all processes for each chunk, also where shares of a batch differ.

    >>> chunks_of(10, 4)
    [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
    """
    count = max(lengths(-(-images // size)))
    ends = [images * (i + 1) // count for i in range(count)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def join(parts: Sequence[Features], sizes: Sequence[int]) -> tuple[Features, Tensor]:
    """Features of consecutive shares of a batch, of so many images each, as those of the whole, and their order [N] among the rows of all."""
    apart = [replace(part, source=part.source + sum(sizes[:i])) for i, part in enumerate(parts)]
    tensors: dict[str, Any] = {
        f.name: torch.cat([getattr(part, f.name) for part in apart]) for f in fields(Features) if f.name not in ("rows", "images", "extra")
    }
    rows = {name: torch.cat([part.rows[name] for part in apart]) for name in apart[0].rows}
    images = {name: torch.cat([part.images[name] for part in apart]) for name in apart[0].images}
    whole = Features(**tensors, rows=rows, images=images, extra=apart[-1].extra)
    order = in_order(whole, sum(sizes))
    return whole[order], order


def _map(features: Features, change: Callable[[Tensor], Tensor]) -> Features:
    """The features with `change` applied to every tensor, those of images included, in one order."""
    changed = features.map(change)
    return replace(changed, images={name: change(value) for name, value in features.images.items()})
