"""InfoNCE between the sketches and the photos of a batch."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from sbirlib.distance import at_least_float32
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Loss, Step

LEAST = 0.01  # temperature: the logits are scaled by at most 100 (Radford et al. 2021, section 2.5)


class InfoNce(Loss):
    """InfoNCE of each sketch and photo of one instance, against the batch's photos of others (van den Oord et al. 2018, eq. 4).

        L = mean over pairs (s, p) of -log(exp(z_sp) / (exp(z_sp) + sum_n exp(z_sn))),    z = -d^2 / (2 temperature)

    d are the encoder's distances [N, N]: z is the cosine over the temperature, but for a constant, where vectors are of unit length. The sum is over
    photos of other instances, of all processes; `symmetric` takes the mean of L and of the same with sketches and photos exchanged (Radford et al.
    2021, figure 3). Rows of other views do not count. Logs `temperature` if it is learnt. Raises InputError for rows without instances.

    Args:
        temperature: temperature of the similarities, or its initial value
        learnt: train the temperature, which stays at least 0.01
        symmetric: compare photos with sketches too

    >>> InfoNce(temperature=0.07)(step)
    tensor(...)
    """

    log_scale: Tensor

    def __init__(self, *, temperature: Annotated[float, Ge(LEAST)] = 0.07, learnt: bool = False, symmetric: bool = True) -> None:
        super().__init__()
        self.learnt, self.symmetric = learnt, symmetric
        log_scale = torch.tensor(-math.log(temperature))
        if learnt:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale, persistent=False)

    def forward(self, step: Step) -> Tensor:
        """Mean over pairs and directions, a scalar []."""
        features, similarity = step.features, -at_least_float32(step.distances).square() / 2
        sketch, photo = ((features.modality == modality) & (features.view == 0) for modality in (SKETCH, PHOTO))
        if bool((features.instance[sketch | photo] < 0).any()):
            raise InputError("the loss info_nce needs the instance of each image, and some images here have none: use a dataset of pairs")
        logits = similarity[sketch][:, photo] * self.log_scale.to(similarity.dtype).exp()
        same = features.instance[sketch][:, None] == features.instance[photo]
        if self.learnt:
            step.log("temperature", (-self.log_scale).exp())
        return (info_nce(logits, same) + info_nce(logits.T, same.T)) / 2 if self.symmetric else info_nce(logits, same)

    def after_step(self, step: Step) -> None:
        """Keep the temperature at 0.01 at least."""
        with torch.no_grad():
            self.log_scale.clamp_(max=-math.log(LEAST))


def info_nce(logits: Tensor, same: Tensor) -> Tensor:
    """-log(exp(z_ij) / (exp(z_ij) + sum_n exp(z_in))) for logits z [A, C], the mean over pairs ij that are the `same` [A, C], n over all others.

    A scalar []; zero, with a gradient, without a pair.
    """
    anchor, positive = (same & (~same).any(1, keepdim=True)).nonzero(as_tuple=True)  # without another the term is zero, and its sum empty
    others = logits[anchor].masked_fill(same[anchor], -math.inf).logsumexp(1)
    return F.softplus(others - logits[anchor, positive]).sum() / max(int(same.sum()), 1) + 0 * logits.sum()
