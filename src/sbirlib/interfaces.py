"""Contract of a plugin: the interface of each kind of component, and the step that losses read.

Letters in shapes: B images, N rows, D embedding, V searched vector, S vectors of width W a query, Q queries, G gallery, C categories. The
tensors that components exchange are in `features.py`; `plugin_api.py` names all that a plugin may import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbirlib.distance import are_units, at_least_float32, euclidean
from sbirlib.errors import InputError
from sbirlib.features import PHOTO, SKETCH, Batch, Encoded, Features, Triplets
from sbirlib.gather import gather, lengths
from sbirlib.options import hold
from sbirlib.processes import world_size
from sbirlib.whole_batch import whole_batch

__all__ = [
    "PHOTO",
    "SKETCH",
    "AdversarialLoss",
    "Batch",
    "Classifier",
    "Component",
    "Encoded",
    "Encoder",
    "Evaluator",
    "Features",
    "Labels",
    "Loss",
    "Miner",
    "ModuleComponent",
    "Sampler",
    "Schedule",
    "Step",
    "Transform",
    "Triplets",
    "Wrapper",
]


C = TypeVar("C", bound="Component")


class Component:
    """Base of every component. Its constructor's keyword-only signature declares its options: names, types, ranges and defaults.

    Values are held to the annotations whenever a component is made; a wrong one raises InputError.
    """

    def __new__(cls: type[C], *_: Any, **options: Any) -> C:
        hold(cls, options)
        return super().__new__(cls)


class ModuleComponent(Component, nn.Module):
    """A component with parameters or buffers; all its state is in `state_dict`."""

    def __init__(self) -> None:  # nn.Module's own takes anything
        super().__init__()

    def load_weights(self) -> None:
        """Fetch pretrained weights that are not loaded yet. Called before first use, never by `build`."""

    def after_step(self, step: Step) -> None:
        """Update counters; called after each optimizer step, unless the component is frozen."""

    def end_epoch(self) -> None:
        """Called when a pass over the sampler's batches ends, unless the component is frozen."""


class Encoder(ModuleComponent):
    """Images to vectors; the component that is exported. `dim` is D, `vector_dim` is V.

    `provides` names the entries of `Features.rows`, `images` and `extra` that it fills.
    """

    dim: int
    vector_dim: int
    provides: frozenset[str] = frozenset()

    def forward(self, batch: Batch) -> Features:
        """Features of N rows for a batch of B images, this process's share.

        In training a random tensor is drawn row by row, its first dimension being rows, and batch norms see the images of all processes.
        """
        raise NotImplementedError

    def distances(self, features: Features) -> Float[Tensor, "N N"]:
        """Distances of all pairs of rows [N, N], from features alone and no parameter; ranks as the vectors do."""
        return euclidean(features.vector)

    def query_vectors(self, batch: Batch) -> Float[Tensor, "Q S W"]:
        """Vectors of queries [Q, S, W]; a photo's score is the largest of its S inner products with `gallery_vectors`."""
        return self.gallery_vectors(batch)[:, None, :]

    def gallery_vectors(self, batch: Batch) -> Float[Tensor, "G W"]:
        """Vectors of photos [G, W]; by default `Features.vector`, which must be of unit length to rank as distances do."""
        vectors: Tensor = self(batch).vector
        if not are_units(vectors):
            raise InputError(
                f"{type(self).__name__}.vector is not of unit length, so inner products would not rank as its distances do: normalise "
                "it, or override query_vectors and gallery_vectors (Euclidean: [2 q, -1] . [g, |g|^2])"
            )
        return vectors


class Wrapper(Encoder):
    """An encoder around `self.encoder` that delegates every method; override those that change."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.dim, self.vector_dim, self.provides = encoder.dim, encoder.vector_dim, encoder.provides

    def forward(self, batch: Batch) -> Features:
        features: Features = self.encoder(batch)
        return features

    def distances(self, features: Features) -> Tensor:
        """Distances of all pairs of rows [N, N]."""
        return self.encoder.distances(features)

    def query_vectors(self, batch: Batch) -> Tensor:
        """Vectors of queries [Q, S, W]."""
        return self.encoder.query_vectors(batch)

    def gallery_vectors(self, batch: Batch) -> Tensor:
        """Vectors of photos [G, W]."""
        return self.encoder.gallery_vectors(batch)


class Miner(ModuleComponent):
    """Choice of triplets, by kind, from features and distances [N, N]; called without gradient, may return none."""

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        """Triplets by kind, for distances [N, N]."""
        raise NotImplementedError


class Loss(ModuleComponent):
    """A scalar, or named terms that are logged and weighed apart; holds all parameters that search does not need.

    `needs` names its inputs: entries of the encoder's `provides`, "triplets" (a miner), or "images" (those of the batch).
    """

    needs: frozenset[str] = frozenset()

    def forward(self, step: Step) -> Tensor | dict[str, Tensor]:
        """A scalar of shape [], or several by name."""
        raise NotImplementedError


class Classifier(Loss):
    """A loss with a score for every category. `Pipeline.classify` names sketches by the mean log probability of all that have `predicts` set."""

    predicts: bool = True

    def logits(self, features: Features) -> Float[Tensor, "N C"]:
        """Logits of each row [N, C]."""
        raise NotImplementedError


class AdversarialLoss(Loss):
    """A loss with an opponent: `discriminator` is frozen while the loss trains the encoder, then trained in a turn of its own."""

    discriminator: nn.Module

    def discriminator_loss(self, step: Step) -> Tensor | dict[str, Tensor]:
        """The discriminator's loss on the step's features without gradient: a scalar of shape [], or several by name."""
        raise NotImplementedError


class Step:
    """Input of a loss: features of all processes, with distances and triplets that are computed once, when first read.

    `batch` and `local` are this process's images and their features; `progress` runs from 0 to 1 over the phase.
    """

    def __init__(
        self,
        features: Features,
        *,
        encoder: Encoder,
        batch: Batch,
        local: Features | None = None,
        miner: Miner | None = None,
        progress: float = 0.0,
    ) -> None:
        self.features, self.encoder, self.batch, self.miner, self.progress = features, encoder, batch, miner, progress
        self.local = features if local is None else local
        self.logged: dict[str, Tensor] = {}

    @cached_property
    def distances(self) -> Float[Tensor, "N N"]:
        """Distances of all pairs of rows [N, N], with gradient."""
        return self.encoder.distances(self.features)

    @cached_property
    def triplets(self) -> Mapping[str, Triplets]:
        """Triplets of the miner, by kind, without gradient."""
        if self.miner is None:
            raise ValueError("this loss reads step.triplets, and the recipe has no miner: add one, such as miner='batch_hard'")
        distances = self.distances.detach()  # computed before gradients are off, for the losses read it too
        with torch.no_grad():
            triplets: Mapping[str, Triplets] = self.miner(self.features.detach(), distances)
        return triplets

    def log(self, name: str, value: Tensor) -> None:
        """Record a scalar of shape [] beside the losses; it is never trained on."""
        self.logged[name] = value.detach()

    def mean(self, values: Tensor, keep: Tensor | None = None) -> Tensor:
        """Mean of local `values` [M], or of those that `keep` [M] marks, over all processes; zero, with a gradient, when there are none.

        This process's share of it times their number, for terms and gradients are averaged over processes afterwards.
        """
        subset = values if keep is None else values[keep]
        count = sum(lengths(subset.numel()))
        return at_least_float32(subset).sum() * float(world_size()) / max(count, 1) + 0 * values.sum()

    def again(self, images: Tensor) -> Step:
        """The step of other images [B, 3, H, W] in place of the batch's: encoded anew, with the rows of all processes, and the same labels."""
        batch = replace(self.batch, images=images)
        with whole_batch(draws=True, norms=False):  # norms are those of the phase, whose mode is around its losses
            local: Features = self.encoder(batch)
        return Step(gather(local, len(batch)), encoder=self.encoder, batch=batch, local=local, miner=self.miner, progress=self.progress)

    def detach(self) -> Step:
        """The same step without gradient, for the discriminator's turn."""
        return Step(
            self.features.detach(),
            encoder=self.encoder,
            batch=self.batch,
            local=self.local.detach(),
            miner=self.miner,
            progress=self.progress,
        )


class Evaluator(Component):
    """Metrics of a retrieval: shares in [0, 1], cosines or differences of two; a name that ends in `_left_out` counts queries.

    `needs` names its inputs: "logits" (a classifier), "cosines" (vectors of unit length, one a query).
    `memory` bounds the bytes that are worked on at once and never changes a result; None where the evaluator needs no bound.
    """

    needs: frozenset[str] = frozenset()
    memory: int | None = None

    def __init__(self) -> None:  # an evaluator without options takes none
        super().__init__()

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        """Metrics by name, for queries [Q] and a gallery [G]."""
        raise NotImplementedError

    def per_query(self, queries: Encoded, gallery: Encoded) -> dict[str, Tensor]:
        """Metrics by name, query by query [Q], NaN for a query that is left out; empty where a metric is no mean over queries."""
        return {}


@runtime_checkable
class Transform(Protocol):
    """Preparation of images for the network, by modality; `size` is the side S of the result.

    Where a transform has `paired` and it is true, images of one instance are augmented from the same random numbers.
    """

    @property
    def size(self) -> int: ...

    def prepare(self, image: Any, modality: int) -> Tensor:
        """A PIL image to uint8 [3, S, S]: deterministic, all that a query gets, stored with an exported model."""
        ...

    def augment(self, image: Tensor, modality: int) -> Tensor:
        """Random change of a prepared image uint8 [3, S, S] for training, by torch's global generator alone."""
        ...


@runtime_checkable
class Labels(Protocol):
    """Labels of a dataset, as a sampler reads them: integer arrays [n]."""

    @property
    def modality(self) -> Any: ...

    @property
    def category(self) -> Any: ...

    @property
    def instance(self) -> Any: ...

    def __len__(self) -> int: ...


@runtime_checkable
class Sampler(Protocol):
    """Batches as lists of indices: a pure function of labels, options, seed and epoch, so that training resumes from a position alone."""

    def batches(self, labels: Labels, *, seed: int, epoch: int) -> list[list[int]]: ...


@runtime_checkable
class Schedule(Protocol):
    """Factor on the learning rate at a step (0-based) of a phase."""

    def factor(self, step: int, steps: int) -> float: ...
