"""Multi-similarity loss: pairs mined and weighted relative to the anchor's other pairs."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from sbirlib.plugin_api import Loss, Step


class MultiSimilarity(Loss):
    """The multi-similarity loss of cosines S, the mean over all rows (Wang et al. 2019, eq. 10 to 12).

        P_i = {k positive: S_ik < max_negative S_ij + epsilon}        N_i = {k negative: S_ik > min_positive S_ij - epsilon}
        L = mean_i 1/alpha log(1 + sum_P exp(-alpha (S_ik - threshold))) + 1/beta log(1 + sum_N exp(beta (S_ik - threshold)))

    A row is not its own positive; one without a positive has no negative either, and the other way round. The vector [N, V] is of
    unit length in most encoders, and is normalised here in any case. Needs categories.

    Args:
        alpha: weight of positive pairs: the larger, the more the hardest counts
        beta: weight of negative pairs: the larger, the more the hardest counts
        threshold: the paper's lambda, the cosine at which a pair counts half
        epsilon: margin of the mining, a cosine

    >>> MultiSimilarity(alpha=2.0, beta=50.0)
    MultiSimilarity()
    """

    def __init__(
        self,
        *,
        alpha: Annotated[float, Gt(0)] = 2.0,
        beta: Annotated[float, Gt(0)] = 50.0,
        threshold: float = 0.5,
        epsilon: Annotated[float, Ge(0)] = 0.1,
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.threshold, self.epsilon = alpha, beta, threshold, epsilon

    def forward(self, step: Step) -> Tensor:
        vector, category = step.features.vector, step.features.category
        with torch.autocast(vector.device.type, enabled=False):
            vector = torch.nn.functional.normalize(vector.to(torch.promote_types(vector.dtype, torch.float32)), dim=1)
            similarity = vector @ vector.T
        positive, negative = self.mine(similarity.detach(), category)
        pull = softplus_sum(-self.alpha * (similarity - self.threshold), positive) / self.alpha
        push = softplus_sum(self.beta * (similarity - self.threshold), negative) / self.beta
        return (pull + push).sum() / max(len(category), 1)

    def mine(self, similarity: Tensor, category: Tensor) -> tuple[Tensor, Tensor]:
        """P and N as masks [N, N], from cosines [N, N] and categories [N] (eq. 10 and 11)."""
        same = category[:, None] == category
        positive, negative = same.clone().fill_diagonal_(False), ~same
        if not len(category):
            return positive, negative
        hardest_negative = similarity.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
        hardest_positive = similarity.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
        return positive & (similarity < hardest_negative + self.epsilon), negative & (similarity > hardest_positive - self.epsilon)


def softplus_sum(values: Tensor, keep: Tensor) -> Tensor:
    """log(1 + sum of exp) over the values [N, N] that `keep` marks in each row, [N]; zero where it marks none."""
    masked = values.masked_fill(~keep, -torch.inf)
    return torch.logsumexp(torch.cat([torch.zeros_like(masked[:, :1]), masked], 1), 1) if len(values) else values.sum(1)
