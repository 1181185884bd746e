"""Instance-level triplets: a sketch, its own photo, and another photo of the same category."""

from typing import Literal

import torch
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Features, Miner, Triplets
from sbirlib.miners.hardest import hardest, semi_hard


class InstanceTriplets(Miner):
    """For each sketch and each photo of its instance a negative: a photo of another instance of its category (Pang et al. 2017, section 3.1).

    The kind is "instance". "random" negatives are uniform, by torch's global generator; "hardest" is the nearest; "semi_hard" the nearest of
    those farther than the positive, or without one the farthest (Schroff et al. 2015). A sketch without its photo, or without another, gives no
    triplet. Needs a sampler that brings sketches with their photos and several instances of a category, such as `pairs` with its option
    `per_category`. Raises InputError for rows without instances.

    Args:
        negative: choice among the candidates: "random", "semi_hard" or "hardest"
        within_category: candidates are of the sketch's category; otherwise of any

    >>> InstanceTriplets(negative="hardest")(features, distances)["instance"]
    Triplets(anchor=tensor([...]), positive=tensor([...]), negative=tensor([...]))
    """

    def __init__(self, *, negative: Literal["random", "semi_hard", "hardest"] = "random", within_category: bool = True) -> None:
        super().__init__()
        self.negative, self.within_category = negative, within_category

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        """A triplet for each sketch and photo of its instance, from distances [N, N]."""
        if len(features) and bool((features.instance < 0).all()):
            raise InputError("the miner instance_triplets needs the instance of each image, and this dataset has no instances")
        same = (features.instance[:, None] == features.instance) & (features.instance >= 0)
        other = (features.instance[:, None] != features.instance) & (features.instance >= 0) & (features.instance >= 0)[:, None]
        if self.within_category:
            other &= features.category[:, None] == features.category
        photo, first = features.modality == PHOTO, features.view == 0
        anchor, positive = (same & (features.modality == SKETCH)[:, None] & photo & first).nonzero(as_tuple=True)
        candidates = other[anchor] & photo & first
        some = candidates.any(1)
        anchor, positive, candidates = anchor[some], positive[some], candidates[some]
        return {"instance": Triplets(anchor, positive, self._negative(distances, anchor, positive, candidates))}

    def _negative(self, distances: Tensor, anchor: Tensor, positive: Tensor, candidates: Tensor) -> Tensor:
        """Row of one of the candidates [T, N] for each triplet [T]."""
        if self.negative == "random":
            return hardest(torch.rand(candidates.shape, device=distances.device), candidates, farthest=True)
        if self.negative == "hardest":
            return hardest(distances[anchor], candidates, farthest=False)
        return semi_hard(distances[anchor], candidates, distances[anchor, positive])
