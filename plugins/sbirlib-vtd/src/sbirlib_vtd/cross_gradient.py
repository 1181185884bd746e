"""Cross-gradient training: images perturbed along the gradient of a category classifier, and of the triplet loss."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor, nn

from sbirlib.plugin_api import Loss, Step, Triplet, check_labels, lengths, world_size
from sbirlib_vtd.networks import SketchEncoder, small


class CrossGradient(Loss):
    """Cross-gradient training (Shankar et al. 2018, algorithm 1), with categories as domains and instances as labels (Pang et al. 2019).

        x_d = x + e grad_x J_d(x),    x_l = x + e grad_x J_l(x)
        label = J_l(x_d),    domain = (1 - a) J_d(x) + a J_d(x_l)

    J_l is the triplet loss of the encoder, J_d the cross entropy of a small category classifier on 64 x 64 grey pixels, which belongs to this
    loss. Gradients are those of each image's own loss; J_l(x) itself is the loss `triplet`, beside this one. Costs two more passes of the
    encoder. Needs a miner.

    Args:
        categories: number of categories, which training fills in
        margin: margin of the triplet loss J_l
        squared: squared distances in J_l
        step_size: length e of the perturbation
        share: weight a of the perturbed images in the domain term
        channels: filters of the classifier's first convolution

    >>> CrossGradient(categories=10, channels=8)(step)
    {'label': tensor(...), 'domain': tensor(...)}
    """

    needs = frozenset({"triplets", "images"})

    def __init__(
        self,
        *,
        categories: Annotated[int, Ge(1)],
        margin: Annotated[float, Ge(0)] = 0.1,
        squared: bool = False,
        step_size: Annotated[float, Ge(0)] = 1.0,
        share: Annotated[float, Interval(ge=0, le=1)] = 0.5,
        channels: Annotated[int, Ge(1)] = 32,
    ) -> None:
        super().__init__()
        self.step_size, self.share = step_size, share
        self.triplet = Triplet(margin=margin, squared=squared)
        self.network = SketchEncoder(channels=channels)
        self.classifier = nn.Linear(self.network.width, categories)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Both terms for images [B, 3, H, W], each a scalar []."""
        batch = step.batch
        check_labels(batch.category, self.classifier.out_features)
        images = batch.images.detach().to(next(step.encoder.parameters()).dtype, copy=True).requires_grad_()
        with torch.enable_grad():  # the images' gradient, also where nothing trains
            by_domain = self._perturbed(images, self._domain_losses(images, batch.category).sum())
            by_label = self._perturbed(images, self._label_loss(step, images) * (sum(lengths(len(images))) / world_size()))
        plain, perturbed = (step.mean(self._domain_losses(x, batch.category)) for x in (images, by_label))
        return {"label": self._label_loss(step, by_domain), "domain": (1 - self.share) * plain + self.share * perturbed}

    def _perturbed(self, images: Tensor, loss: Tensor) -> Tensor:
        """x + e grad_x J [B, 3, H, W], without gradient; `loss` is the sum of the images' own losses."""
        (gradient,) = torch.autograd.grad(loss, images, allow_unused=True)
        return images.detach() if gradient is None else (images + self.step_size * gradient).detach()

    def _domain_losses(self, images: Tensor, category: Tensor) -> Tensor:
        """J_d of each image [B]."""
        logits = self.classifier(self.network(small(images.to(self.classifier.weight.dtype))))
        return F.cross_entropy(logits, category, reduction="none")

    def _label_loss(self, step: Step, images: Tensor) -> Tensor:
        """J_l over the images of all processes, a scalar []."""
        loss: Tensor = self.triplet(step.again(images))
        return loss
