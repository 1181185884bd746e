"""Components with one defect each, and sound ones beside them, for the tests of the conformance kit."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge
from pydantic import SkipValidation
from torch import Tensor, nn

from sbirlib.interfaces import AdversarialLoss, Batch, Encoded, Encoder, Evaluator, Features, Labels, Loss, Miner, Step, Triplets


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
    """Its rows depend on their batch."""

    def encode_images(self, batch: Batch) -> Tensor:
        embedding = super().encode_images(batch)
        return embedding - embedding.mean(0) / 2


class Mixed(Sound):
    """Takes sketches and photos together only."""

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
    """A part of what it is stands in no state_dict."""

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
    """An annotation that is never held.

    Args:
        sharpness: slope
    """

    def __init__(self, *, dim: Annotated[int, Ge(1)] = 8, sharpness: Annotated[float, SkipValidation()] = 1.0) -> None:
        super().__init__(dim=dim)


class Unwritable(Sound):
    def __init__(self, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()


class FirstOfEach(Miner):
    """A miner with nothing wrong: for each row the first other one of its category, and the first of another."""

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        same = features.category[:, None] == features.category
        positive, negative = same.clone().fill_diagonal_(False), ~same
        anchor = (positive.any(1) & negative.any(1)).nonzero().squeeze(1)
        first = [m[anchor].float().argmax(1) if len(anchor) else anchor for m in (positive, negative)]
        return {"first": Triplets(anchor, *first)}


class Careless(FirstOfEach):
    """Positives may be of any category."""

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        found = super().forward(features, distances)["first"]
        return {"first": Triplets(found.anchor, found.negative, found.positive)}


class Misnamed(FirstOfEach):
    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        return {"cross": super().forward(features, distances)["first"]}


class Brittle(FirstOfEach):
    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        distances.max()
        return super().forward(features, distances)


class Hoarder(FirstOfEach):
    """Keeps the distances, and so the graph."""

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        self.seen = distances
        return super().forward(features, distances)


class Cubic(FirstOfEach):
    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        _ = distances[:, :, None] - distances[:, None, :]
        return super().forward(features, distances)


class Spread(Loss):
    """A loss with nothing wrong: the mean squared length of rows from their category's proxy.

    Args:
        dim: width D of the embedding
        categories: number C of categories
    """

    def __init__(self, *, dim: Annotated[int, Ge(1)], categories: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.proxies = nn.Parameter(torch.randn(categories, dim))

    def each(self, step: Step) -> Tensor:
        embedding = step.features.embedding.float() if step.features.embedding.dtype != torch.float64 else step.features.embedding
        return (embedding - self.proxies.to(embedding.dtype)[step.features.category]).square().sum(1)

    def forward(self, step: Step) -> Tensor:
        each = self.each(step)
        return each.sum() / max(len(each), 1)


class Rows(Spread):
    """Gives a value for every row."""

    def forward(self, step: Step) -> Tensor:
        return self.each(step)


class Detached(Spread):
    def forward(self, step: Step) -> Tensor:
        return super().forward(step.detach())


class FirstRow(Spread):
    """The order of rows matters."""

    def forward(self, step: Step) -> Tensor:
        each = self.each(step)
        return (each * torch.arange(1, len(each) + 1)).sum() / max(len(each), 1)


class Undefined(Spread):
    """NaN where there is nothing."""

    def forward(self, step: Step) -> Tensor:
        return self.each(step).mean()


class Crooked(Spread):
    """Its gradient is not that of its value."""

    def forward(self, step: Step) -> Tensor:
        value = super().forward(step)
        return value + (value.detach() - value) / 2


class Caster(Spread):
    """Casts its proxies to the rows' precision, for good, as pytorch-metric-learning does."""

    def each(self, step: Step) -> Tensor:
        self.proxies.data = self.proxies.data.to(step.features.embedding.dtype)
        return super().each(step)


class Lonely(Spread):
    """Means over this process's sketches alone, whatever the others have."""

    def forward(self, step: Step) -> Tensor:
        each = self.each(Step(step.local, encoder=step.encoder, batch=step.batch))
        own = each[step.local.modality == 0]
        return own.sum() / max(len(own), 1) + 0 * each.sum()


class Cheat(AdversarialLoss):
    """Its second turn also trains what is not the discriminator's."""

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.discriminator = nn.Linear(dim, 1)
        self.helper = nn.Parameter(torch.ones(1))

    def forward(self, step: Step) -> Tensor:
        embedding = step.features.embedding
        value: Tensor = self.helper.sum() * self.discriminator(embedding.float()).sum() / max(len(embedding), 1)
        return value

    def discriminator_loss(self, step: Step) -> Tensor:
        return self.forward(step)


class Nearest(Evaluator):
    """An evaluator with nothing wrong: the share of queries whose best photo is of their category."""

    memory = 2**20

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        chunk = max(1, self.memory // (4 * queries.vectors.shape[1] * len(gallery)))
        right = [self.right(queries[torch.arange(len(queries))[i : i + chunk]], gallery) for i in range(0, len(queries), chunk)]
        return {"nearest": float(torch.cat(right).double().mean())}

    def right(self, queries: Encoded, gallery: Encoded) -> Tensor:
        best = (queries.vectors @ gallery.vectors.T).amax(1).argmax(1)
        return gallery.category[best] == queries.category


class Percent(Nearest):
    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        return {"nearest": 100 * super().evaluate(queries, gallery)["nearest"]}


class FirstQueries(Nearest):
    """Measures a few of the queries, whichever come first."""

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        return super().evaluate(queries[torch.arange(min(7, len(queries)))], gallery)


class Greedy(Nearest):
    """All scores at once, however little memory it is given."""

    memory = 2**40

    def __setattr__(self, name: str, value: object) -> None: ...


class GlobalDraw:
    """A sampler that draws from the generator of everyone."""

    def __init__(self, *, size: int = 4) -> None:
        self.size = size

    def batches(self, labels: Labels, *, seed: int, epoch: int) -> list[list[int]]:
        rows: list[int] = torch.randperm(len(labels)).tolist()
        return [rows[: self.size]]


class Counting(Spread):
    """What it counts is lost when training stops."""

    def __init__(self, *, dim: int, categories: int) -> None:
        super().__init__(dim=dim, categories=categories)
        self.calls = 0

    def forward(self, step: Step) -> Tensor:
        self.calls += 1
        return super().forward(step) * self.calls


def first_of_each(features: Features, distances: Tensor) -> dict[str, Sequence[tuple[int, int, int]]]:
    """`FirstOfEach` by plain loops."""
    category = features.category.tolist()
    found = []
    for a, own in enumerate(category):
        positives = [i for i, c in enumerate(category) if c == own and i != a]
        negatives = [i for i, c in enumerate(category) if c != own]
        if positives and negatives:
            found.append((a, positives[0], negatives[0]))
    return {"first": found}
