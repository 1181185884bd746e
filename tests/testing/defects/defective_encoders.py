"""Encoders with one defect each, and a sound one."""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from pydantic import SkipValidation
from torch import Tensor, nn

from sbirlib.interfaces import Batch, Encoder, Features


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
