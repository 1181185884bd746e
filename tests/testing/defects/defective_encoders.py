"""Encoders with one defect each, and a sound one."""

import random
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import torch
from annotated_types import Ge
from pydantic import SkipValidation
from torch import Tensor, nn

from sbirlib.interfaces import Batch, Encoder, Features, Step


class Sound(Encoder):
    """An encoder with nothing wrong.

    Args:
        dim: width D of the embedding
    """

    def __init__(self, *, dim: Annotated[int, Ge(1)] = 8) -> None:
        super().__init__()
        self.dim = self.vector_dim = dim
        self.embedding = nn.Linear(3, dim)

    def encode_images(self, batch: Batch) -> Tensor:
        embedding: Tensor = self.embedding(batch.images.mean((2, 3)) * 10 - 5)
        return embedding

    def forward(self, batch: Batch) -> Features:
        return Features.of(batch, self.encode_images(batch))


class WrongWidth(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.dim = 9


class EmptyPromise(Sound):
    provides = frozenset({"points"})


class Noisy(Sound):
    def encode_images(self, batch: Batch) -> Tensor:
        embedding = super().encode_images(batch)
        return embedding + torch.randn_like(embedding)


class Sociable(Sound):
    """Rows that depend on their batch."""

    def encode_images(self, batch: Batch) -> Tensor:
        embedding = super().encode_images(batch)
        return embedding - embedding.mean(0) / 2


class Mixed(Sound):
    """Another encoding of sketches and photos in one batch."""

    def encode_images(self, batch: Batch) -> Tensor:
        embedding = super().encode_images(batch)
        return embedding + (len(batch.modality.unique()) - 1)


class Parametric(Sound):
    def distances(self, features: Features) -> Tensor:
        weighted = features.embedding @ self.embedding.weight
        return torch.cdist(weighted, weighted)


class Unranked(Sound):
    """Searched by inner products of vectors that are not of unit length."""

    def gallery_vectors(self, batch: Batch) -> Tensor:
        return self.encode_images(batch)


class Deaf(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))


class Forgetful(Sound):
    """A tensor of its state that stands in no state_dict."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.randn(8)

    def encode_images(self, batch: Batch) -> Tensor:
        return super().encode_images(batch) + self.shift


class Online(Sound):
    def __init__(self) -> None:
        import socket

        super().__init__()
        socket.create_connection(("127.0.0.1", 9), timeout=1)


class Positional(Sound):
    def __init__(self, dim: int = 8) -> None:
        super().__init__(dim=dim)


class Loose(Sound):
    def __init__(self, **anything: Any) -> None:
        super().__init__()


class Unexplained(Sound):
    """An option that nobody explains."""

    def __init__(self, *, dim: Annotated[int, Ge(1)] = 8, sharpness: float = 1.0) -> None:
        super().__init__(dim=dim)


class Untyped(Sound):
    """An option without an annotation.

    Args:
        sharpness: slope
    """

    def __init__(self, *, dim: Annotated[int, Ge(1)] = 8, sharpness=1.0) -> None:  # type: ignore[no-untyped-def]
        super().__init__(dim=dim)


class Outside(Sound):
    """A default out of its own range.

    Args:
        sharpness: slope
    """

    def __init__(self, *, dim: Annotated[int, Ge(1)] = 8, sharpness: Annotated[float, Ge(1)] = 0.5) -> None:
        super().__init__(dim=dim)


class Lax(Sound):
    """An annotation that is never enforced.

    Args:
        sharpness: slope
    """

    def __init__(self, *, dim: Annotated[int, Ge(1)] = 8, sharpness: Annotated[float, SkipValidation()] = 1.0) -> None:
        super().__init__(dim=dim)


class Unwritable(Sound):
    def __init__(self, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()


class Seasoned(Sound):
    """A scale that grows with the training steps, and is lost by saving."""

    steps = 0

    def after_step(self, step: Step) -> None:
        self.steps += 1

    def encode_images(self, batch: Batch) -> Tensor:
        return super().encode_images(batch) * (1 + self.steps)


class Tallying(Sound):
    """A count of an epoch's steps that changes nothing until the epoch ends, when it moves a weight."""

    count = 0

    def after_step(self, step: Step) -> None:
        self.count += 1

    def end_epoch(self) -> None:
        with torch.no_grad():
            self.embedding.bias.add_(self.count)
        self.count = 0


class Dicing(Sound):
    """Draws from Python's generator in training."""

    def encode_images(self, batch: Batch) -> Tensor:
        return super().encode_images(batch) * (random.uniform(0.9, 1.1) if self.training else 1.0)


class Painter(Sound):
    """Centres the images of its caller."""

    def encode_images(self, batch: Batch) -> Tensor:
        batch.images.sub_(0.5)
        return super().encode_images(batch)


class Homebody(Sound):
    """A constant that does not move with the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.full((8,), 2.0)

    def encode_images(self, batch: Batch) -> Tensor:
        return super().encode_images(batch) * self.scale


class CountingAtHome(Sound):
    """A count of the steps' modalities that is made on the CPU."""

    modalities: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("modalities", torch.zeros(2, dtype=torch.int64))

    def after_step(self, step: Step) -> None:
        self.modalities += torch.tensor([step.batch.modality.tolist().count(m) for m in (0, 1)])


class Coupled(Sound):
    """Takes the images of a training batch two by two."""

    def encode_images(self, batch: Batch) -> Tensor:
        embedding = super().encode_images(batch)
        return embedding.reshape(2, len(batch) // 2, -1).flatten(0, 1) if self.training else embedding


class Branching(Sound):
    """A branch that depends on the images, at which a graph ends."""

    def encode_images(self, batch: Batch) -> Tensor:
        embedding = super().encode_images(batch)
        return embedding if float(batch.images.mean()) > 0.1 else -embedding


class Mutable(Sound):
    """A default that all instances share.

    Args:
        scales: factors of the embedding
    """

    def __init__(self, *, scales: list[float] = [1.0, 2.0]) -> None:  # noqa: B006 - its defect
        super().__init__()


class Tupled(Sound):
    """Factors that count as a tuple alone.

    Args:
        scales: factors of the embedding
    """

    def __init__(self, *, scales: Sequence[float] = (2.0, 3.0)) -> None:
        super().__init__()
        self.scale = scales[0] if isinstance(scales, tuple) else 1.0

    def encode_images(self, batch: Batch) -> Tensor:
        return super().encode_images(batch) * self.scale


class StrictTuple(Sound):
    """An option that takes a tuple alone.

    Args:
        scales: factors of the embedding
    """

    def __init__(self, *, scales: tuple[float, float] = (2.0, 3.0)) -> None:
        super().__init__()


class Kind(StrEnum):
    SOFT = "soft"
    HARD = "hard"


class Enumerated(Tupled):
    """A choice that counts as an enum alone.

    Args:
        kind: soft or hard
    """

    def __init__(self, *, kind: str = Kind.HARD) -> None:
        super().__init__()
        self.scale = 2.0 if kind is Kind.HARD else 1.0


class Keyed(Tupled):
    """A table with numbers for keys.

    Args:
        weights: factor of the embedding by category
    """

    def __init__(self, *, weights: Mapping[Any, float] | None = None) -> None:
        super().__init__()
        self.scale = (weights or {}).get(1, 1.0)
