"""Losses with one defect each, and a sound one."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor, nn

from sbirlib.interfaces import AdversarialLoss, Loss, Step


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
    """A value that depends on the order of rows."""

    def forward(self, step: Step) -> Tensor:
        each = self.each(step)
        return (each * torch.arange(1, len(each) + 1)).sum() / max(len(each), 1)


class Undefined(Spread):
    """NaN where there is nothing."""

    def forward(self, step: Step) -> Tensor:
        return self.each(step).mean()


class Crooked(Spread):
    """A gradient that is not that of the value."""

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
    """A discriminator turn that also trains another parameter."""

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


class Counting(Spread):
    """A counter that is lost when training stops."""

    def __init__(self, *, dim: int, categories: int) -> None:
        super().__init__(dim=dim, categories=categories)
        self.calls = 0

    def forward(self, step: Step) -> Tensor:
        self.calls += 1
        return super().forward(step) * self.calls


class NumpyInit(Spread):
    """Initial values by numpy's global generator."""

    def __init__(self, *, dim: int, categories: int) -> None:
        super().__init__(dim=dim, categories=categories)
        self.proxies.data = torch.tensor(np.random.randn(categories, dim), dtype=torch.float32)


class Relabeller(Spread):
    """Counts categories from 1 in the features of its caller."""

    def forward(self, step: Step) -> Tensor:
        step.features.category.add_(1).clamp_(max=len(self.proxies) - 1)
        return super().forward(step)


class Weighted(Spread):
    """Weights of the rows that are made on the CPU, after a branch on the rows."""

    def forward(self, step: Step) -> Tensor:
        each = self.each(step)
        if not bool((each > 0).any()):
            return each.sum()
        return (each * torch.ones(len(each))).sum() / max(len(each), 1)


class Paired(Spread):
    """Takes rows two by two."""

    def forward(self, step: Step) -> Tensor:
        each = self.each(step)
        return each.reshape(2, len(each) // 2).mean(0).sum() / max(len(each) // 2, 1)


class EvenRows(Spread):
    """Leaves out the last of an odd number of rows."""

    def forward(self, step: Step) -> Tensor:
        each = self.each(step)
        return each[: len(each) // 2 * 2].sum() / max(len(each), 1)


class Hashed(Spread):
    """A scale by the hash of a text."""

    def forward(self, step: Step) -> Tensor:
        return super().forward(step) * (hash("spread") % 1009)
