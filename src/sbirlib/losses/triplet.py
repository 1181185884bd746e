"""Triplet loss over the triplets of a miner."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from sbirlib.distance import at_least_float32
from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import Loss, Step


def violations(step: Step, *, margin: float, squared: bool = False) -> dict[str, Tensor]:
    """Violations d_ap - d_an + margin of every triplet, by kind [T]; of squared distances if `squared`.

    All kinds are read from the distances at once, because each read costs the backward pass a matrix [N, N].
    """
    distances = step.distances  # read before the triplets, which are mined without gradient
    triplets = step.triplets
    if not triplets:
        return {}
    anchor = torch.cat([t.anchor for t in triplets.values()])
    other = torch.cat([t.positive for t in triplets.values()] + [t.negative for t in triplets.values()])
    pairs = at_least_float32(distances[anchor.repeat(2), other])
    positive, negative = (pairs.square() if squared else pairs).chunk(2)
    by_kind = torch.split(positive - negative + margin, [len(t) for t in triplets.values()])
    return dict(zip(triplets, by_kind, strict=True))


def mean(values: Tensor) -> Tensor:
    """Mean of values [T], a scalar; zero, with a gradient, without values."""
    return values.sum() / max(values.numel(), 1)


class Triplet(Loss):
    """The mean over triplets of a hinge, summed over the miner's kinds (Hermans et al. 2017, eq. 1).

        L = mean [d_ap - d_an + margin]_+        soft: mean log(1 + exp(d_ap - d_an + margin)); margin = 0 is theirs

    d are the encoder's distances [N, N]. Needs a miner, such as `batch_hard`. Raises InputError for a `kind` that the miner does not give.

    Args:
        margin: distance by which a negative must be farther than the positive
        kind: the one kind of triplets to use; all kinds of the miner where none
        soft: softplus in place of the hinge
        squared: squared distances

    >>> Triplet(margin=0.2)(step)
    tensor(...)
    """

    needs = frozenset({"triplets"})

    def __init__(
        self, *, margin: Annotated[float, Ge(0)] = 0.2, kind: str | None = None, soft: bool = False, squared: bool = False
    ) -> None:
        super().__init__()
        self.margin, self.kind, self.soft, self.squared = margin, kind, soft, squared

    def forward(self, step: Step) -> Tensor:
        """Sum over kinds of the mean over triplets, from distances [N, N]: a scalar []."""
        by_kind = violations(step, margin=self.margin, squared=self.squared)
        if self.kind is not None:
            if self.kind not in by_kind:
                raise InputError(f"the miner gives no triplets of kind {self.kind!r}{nearest(self.kind, by_kind)}")
            by_kind = {self.kind: by_kind[self.kind]}
        bend = F.softplus if self.soft else F.relu
        return sum((mean(bend(values)) for values in by_kind.values()), start=mean(step.features.vector[:0]))
