"""The triplet loss, over whatever triplets the miner chose."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.distance import at_least_float32
from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import Loss, Step


def violations(step: Step, *, margin: float, squared: bool = False) -> dict[str, Tensor]:
    """d_ap - d_an + margin of every triplet, by kind [T]; of squared distances if `squared`.

    All kinds are read from the distances at once, because each read costs the backward pass a matrix [N, N].
    """
    distances = step.distances  # before the triplets, which would have them computed without gradient
    triplets = step.triplets
    if not triplets:
        return {}
    anchor = torch.cat([t.anchor for t in triplets.values()])
    other = torch.cat([t.positive for t in triplets.values()] + [t.negative for t in triplets.values()])
    chosen = at_least_float32(distances[anchor.repeat(2), other])
    positive, negative = (chosen.square() if squared else chosen).chunk(2)
    parts = torch.split(positive - negative + margin, [len(t) for t in triplets.values()])
    return dict(zip(triplets, parts, strict=True))


def mean(values: Tensor) -> Tensor:
    """The mean of values [T]; zero, with a gradient, when there are none."""
    return values.sum() / max(len(values), 1)


class Triplet(Loss):
    """The mean over triplets of a hinge, summed over the miner's kinds (Hermans et al. 2017, eq. 1).

        L = mean [d_ap - d_an + margin]_+        soft: mean log(1 + exp(d_ap - d_an + margin)); margin = 0 is theirs

    d are the encoder's distances [N, N], or if `squared` their squares. `kind` takes one kind of triplets alone; InputError if the miner has no
    such kind.
    Needs a miner, such as `batch_hard`.

    >>> loss = Triplet(margin=0.2)
    >>> loss(step)  # distances 0.5 to the positive, 0.6 to the negative  # doctest: +SKIP
    tensor(0.1000)
    """

    needs = frozenset({"triplets"})

    def __init__(self, *, margin: float = 0.2, kind: str | None = None, soft: bool = False, squared: bool = False) -> None:
        super().__init__()
        self.margin, self.kind, self.soft, self.squared = margin, kind, soft, squared

    def forward(self, step: Step) -> Tensor:
        found = violations(step, margin=self.margin, squared=self.squared)
        if self.kind is not None:
            if self.kind not in found:
                raise InputError(f"the miner gives no triplets of kind {self.kind!r}{nearest(self.kind, found)}")
            found = {self.kind: found[self.kind]}
        bend = F.softplus if self.soft else F.relu
        return sum((mean(bend(values)) for values in found.values()), start=mean(step.features.vector[:0]))
