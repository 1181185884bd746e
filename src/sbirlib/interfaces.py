"""The contract between the parts. A plugin author reads this file whole and nothing else of ours.

Letters used in every docstring: B images, N rows, D embedding, V searched vector, S vectors a query, Q queries,
G gallery, C categories, T triplets. Masks and labels are int64 unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbirlib.distance import at_least_float32, euclidean

SKETCH, PHOTO = 0, 1


@dataclass(frozen=True)
class Batch:
    """Images [B, 3, H, W] in [0, 1] with their modality, category and instance [B] (-1: no instance known)."""

    images: Tensor
    modality: Tensor
    category: Tensor
    instance: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Tensor | slice) -> Batch:
        return Batch(*(getattr(self, f.name)[rows] for f in fields(self)))

    def to(self, device: torch.device | str) -> Batch:
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


@dataclass(frozen=True)
class Features:
    """What an encoder makes of a batch: N rows, which may be more than the B images.

    `embedding` [N, D] is un-normalised, `vector` [N, V] is what is searched. `source` [N] is the image a row came from, `view`
    [N] is 0 for the image itself and 1 for what was synthesised from it. `rows` holds named extras [N, ...], which travel with
    the rows between encoders and processes; `images` those of the process's own images [B, ...], and `extra` anything else: they
    stay in the process.
    """

    embedding: Tensor
    vector: Tensor
    modality: Tensor
    category: Tensor
    instance: Tensor
    source: Tensor
    view: Tensor
    rows: dict[str, Tensor] = field(default_factory=dict)
    images: dict[str, Tensor] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        batch: Batch,
        embedding: Tensor,
        *,
        vector: Tensor | None = None,
        rows: dict[str, Tensor] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> Features:
        """One row an image. `vector` is the L2-normalised embedding unless given; half precision becomes float32."""
        embedding = at_least_float32(embedding)
        count = len(batch)
        if embedding.ndim != 2 or len(embedding) != count:
            raise ValueError(f"an embedding [B, D] with B = {count} was expected, got {list(embedding.shape)}")
        return cls(
            embedding=embedding,
            vector=F.normalize(embedding, dim=1) if vector is None else at_least_float32(vector),
            modality=batch.modality,
            category=batch.category,
            instance=batch.instance,
            source=torch.arange(count, device=embedding.device),
            view=torch.zeros_like(batch.modality),
            rows=rows or {},
            extra=extra or {},
        )

    def __len__(self) -> int:
        return len(self.embedding)

    def map(self, change: Callable[[Tensor], Tensor]) -> Features:
        """The same rows with `change` applied to every tensor of rows; `images` and `extra` are kept as they are."""
        other = ("rows", "images", "extra")
        changed: dict[str, Any] = {f.name: change(getattr(self, f.name)) for f in fields(self) if f.name not in other}
        return replace(self, **changed, rows={name: change(value) for name, value in self.rows.items()})

    def __getitem__(self, rows: Tensor | slice) -> Features:
        return self.map(lambda values: values[rows])

    def detach(self) -> Features:
        return replace(self.map(torch.Tensor.detach), images={name: value.detach() for name, value in self.images.items()})


@dataclass(frozen=True)
class Triplets:
    """Rows of anchors, positives and negatives, [T] each."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor

    def __len__(self) -> int:
        return len(self.anchor)


class Part(nn.Module):
    """A named, configurable piece. Its constructor's keyword-only signature is its schema; all its state is in `state_dict`."""

    def __init__(self) -> None:  # nn.Module's own takes anything
        super().__init__()

    def load_weights(self) -> None:
        """Fetch pretrained weights, if the part has any that are not yet loaded. Called before first use, never by `build`."""

    def after_step(self, step: Step) -> None:
        """Called after each optimizer step, unless the part is frozen: the place where counters change."""

    def end_epoch(self) -> None:
        """Called when a pass over the sampler's batches ends, unless the part is frozen."""


class Encoder(Part):
    """Images to vectors: the part that ships. `dim` is D, `vector_dim` is V; `provides` names what `rows`, `images` and `extra` will hold."""

    dim: int
    vector_dim: int
    provides: frozenset[str] = frozenset()

    def forward(self, batch: Batch) -> Features:
        raise NotImplementedError

    def distances(self, features: Features) -> Tensor:
        """Distances of all pairs of rows [N, N], from features alone and no parameter; ranks as the vectors do."""
        return euclidean(features.vector)

    def query_vectors(self, batch: Batch) -> Tensor:
        """[Q, S, V']: the score of a photo is the largest of its S inner products with `gallery_vectors`."""
        return self.gallery_vectors(batch)[:, None, :]

    def gallery_vectors(self, batch: Batch) -> Tensor:
        """[G, V']: by default the vector itself, which must then be of unit length so that inner products rank as distances do."""
        vectors: Tensor = self(batch).vector
        if not torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors), device=vectors.device), atol=1e-3):
            raise ValueError(
                f"{type(self).__name__}.vector is not of unit length, so inner products would not rank as its distances do: normalise "
                "it, or override query_vectors and gallery_vectors (Euclidean: [2 q, -1] . [g, |g|^2])"
            )
        return vectors


class Wrapper(Encoder):
    """An encoder around `self.encoder`: delegates everything, so override only what changes."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.dim, self.vector_dim, self.provides = encoder.dim, encoder.vector_dim, encoder.provides

    def forward(self, batch: Batch) -> Features:
        features: Features = self.encoder(batch)
        return features

    def distances(self, features: Features) -> Tensor:
        return self.encoder.distances(features)

    def query_vectors(self, batch: Batch) -> Tensor:
        return self.encoder.query_vectors(batch)

    def gallery_vectors(self, batch: Batch) -> Tensor:
        return self.encoder.gallery_vectors(batch)


class Miner(Part):
    """Chooses triplets, by kind. Called without gradient; may return none. `same_source=False` leaves out pairs of one image."""

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        raise NotImplementedError


class Loss(Part):
    """A scalar, or named terms which are logged and may be weighed apart; owns whatever training throws away.

    `needs` names what must be there: entries of the encoder's `provides`, or "triplets" (a miner). A loss with
    `logits(features) -> [N, C]` is a classifier, and `Pipeline.classify` uses it.
    """

    needs: frozenset[str] = frozenset()

    def forward(self, step: Step) -> Tensor | dict[str, Tensor]:
        raise NotImplementedError


class AdversarialLoss(Loss):
    """A loss with an opponent. Its `discriminator` is frozen while the loss acts on the encoder, then trained in a turn of its own."""

    discriminator: nn.Module

    def discriminator_loss(self, step: Step) -> Tensor | dict[str, Tensor]:
        """The second turn, with the step's features detached."""
        raise NotImplementedError


class Step:
    """What a loss sees: rows of all processes, and lazily their distances and triplets, each computed once when first read.

    `batch` and `local` are this process's images and their rows; `progress` runs from 0 to 1 over the phase.
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
    def distances(self) -> Tensor:
        """[N, N], with gradient."""
        return self.encoder.distances(self.features)

    @cached_property
    def triplets(self) -> Mapping[str, Triplets]:
        """The miner's choice, by kind, without gradient."""
        if self.miner is None:
            raise ValueError("this loss reads step.triplets, and the recipe has no miner: add one, such as miner='batch_hard'")
        distances = self.distances.detach()  # computed before gradients are off, for it is kept for the losses
        with torch.no_grad():
            chosen: Mapping[str, Triplets] = self.miner(self.features.detach(), distances)
        return chosen

    def log(self, name: str, value: Tensor) -> None:
        """Record a scalar beside the losses; it is never trained on."""
        self.logged[name] = value.detach()

    def mean(self, values: Tensor, keep: Tensor | None = None) -> Tensor:
        """The mean of local `values` [M] over those kept, in all processes together; zero, with a gradient, when none is."""
        kept = values if keep is None else values[keep]
        count = torch.tensor(float(kept.numel()), device=values.device)
        scale = 1.0
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(count)
            scale = float(torch.distributed.get_world_size())  # gradients are averaged over processes afterwards
        return kept.sum() * scale / count.clamp(min=1) + 0 * values.sum()

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


@dataclass(frozen=True)
class Encoded:
    """Encoded images for an evaluator: `vectors` [Q, S, V'] of queries or [G, V'] of a gallery, and their labels, on the CPU."""

    vectors: Tensor
    modality: Tensor
    category: Tensor
    instance: Tensor
    logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: Tensor | slice) -> Self:
        return replace(self, **{f.name: v[rows] for f in fields(self) if (v := getattr(self, f.name)) is not None})


class Evaluator(Protocol):
    """Measures retrieval. Metrics are shares in [0, 1], or cosines and differences of two; a name in `_left_out` counts queries.

    `needs` names "logits" where it reads them, and "cosines" where vectors must be of unit length, one a query. An attribute `memory`,
    in bytes, bounds what is worked on at once. One with `measured(queries, gallery)`, as ours have, gives the same query by query, which
    benchmarks compare.
    """

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]: ...


class Transform(Protocol):
    """Prepares a picture for the network, apart for the two modalities; `size` is the side S of what it makes."""

    @property
    def size(self) -> int: ...

    def prepare(self, image: Any, modality: int) -> Tensor:
        """A PIL image to uint8 [3, S, S]: deterministic, the whole of what a query gets, stored with an exported model."""
        ...

    def augment(self, image: Tensor, modality: int) -> Tensor:
        """Random change of a prepared picture for training, drawing from torch's global generator alone."""
        ...


class Labels(Protocol):
    """What a sampler sees of a dataset: integer arrays [n]."""

    @property
    def modality(self) -> Any: ...

    @property
    def category(self) -> Any: ...

    @property
    def instance(self) -> Any: ...

    def __len__(self) -> int: ...


class Sampler(Protocol):
    """Batches as lists of indices: a pure function of dataset, options, seed and epoch, so resuming needs a position and nothing else."""

    def batches(self, labels: Labels, *, seed: int, epoch: int) -> list[list[int]]: ...


class Schedule(Protocol):
    """The learning rate's factor at a step (0-based) of a phase."""

    def factor(self, step: int, steps: int) -> float: ...
