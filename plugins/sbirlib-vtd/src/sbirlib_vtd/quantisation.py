"""Quantisation error of k-means, by whose gradient the centres are trained."""

from torch import Tensor

from sbirlib.plugin_api import Loss, Step, at_least_float32


class Quantisation(Loss):
    """min_k |z - c_k|^2, the mean over images (Bottou and Bengio 1995).

    Reads the `code` z [N, D] of the encoder `clustered`, whose embedding is the nearest centre. Only centres get a gradient.

    >>> step = step_of(part("encoder", "clustered", encoder=encoder))
    >>> Quantisation()(step)
    tensor(...)
    """

    needs = frozenset({"code"})

    def forward(self, step: Step) -> Tensor:
        """Mean over rows of the squared distance of `code` and embedding, both [N, D]: a scalar []."""
        centre, code = at_least_float32(step.features.embedding), at_least_float32(step.features.rows["code"])
        each = (centre - code).square().sum(1)
        return each.sum() / max(len(each), 1)
