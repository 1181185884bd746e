"""Triplet miners of pytorch-metric-learning (PML) by name: "pml:TripletMarginMiner"."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from pytorch_metric_learning import miners
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_triplets
from torch import Tensor

from sbirlib.distance import at_least_float32
from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import Features, Miner, Triplets
from sbirlib.options import read_options, refuse

TRIPLET_MINERS = ("AngularMiner", "BatchEasyHardMiner", "BatchHardMiner", "DistanceWeightedMiner", "TripletMarginMiner")
PAIRS = "it mines pairs, not triplets: give it to a PML loss, as that loss's option miner={name!r}"
REFUSED = dict.fromkeys(("HDCMiner", "MultiSimilarityMiner", "PairMarginMiner", "UniformHistogramMiner"), PAIRS)
REFUSED["EmbeddingsAlreadyPackagedAsTriplets"] = "it reads triplets from the order of rows, and batches here have none"


class EncoderDistance(LpDistance):
    """PML's distance, replaced by the encoder's distances [N, N]."""

    matrix: Tensor

    def forward(self, query: Tensor, reference: Tensor | None = None) -> Tensor:
        """Distances [N, N], whatever the rows."""
        return self.matrix.clone()


class PmlMiner(Miner):
    """A PML triplet miner on the encoder's distances [N, N], and its vectors [N, V] where it reads those, as the kind "pml"."""

    def __init__(self, miner: Any) -> None:
        super().__init__()
        self.miner = miner

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        """PML's triplets, from distances [N, N] and vectors [N, V]."""
        if not len(features):
            none = features.category
            return {"pml": Triplets(none, none, none)}
        self.miner.distance.matrix = at_least_float32(distances)
        try:
            mined = self.miner(at_least_float32(features.vector), features.category)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise InputError(
                f"pml:{type(self.miner).__name__} fails with {type(error).__name__}: {error}. It read the distances of {len(features)} rows, from "
                f"{distances.min().item():.3g} to {distances.max().item():.3g}. Usual causes: values outside its range, an option that does not "
                "fit them, or a batch without the pairs that it needs: change its options or the sampler, or choose another miner"
            ) from error
        finally:
            del self.miner.distance.matrix
        return {"pml": Triplets(*convert_to_triplets(mined, features.category))}


def adapt(name: str) -> Callable[..., PmlMiner]:
    """Constructor of the PML triplet miner `name`, with its own options, keyword-only and typed by their defaults.

    Raises InputError for a name that PML does not have and for a miner of pairs, which belongs in a PML loss's option `miner`; the constructor
    does for an option that the miner does not have, and for a value of another type.

    >>> miner = adapt("TripletMarginMiner")(margin=0.1, type_of_triplets="semihard")
    """
    if name in REFUSED:
        raise InputError(f"pml:{name} cannot be used here: {REFUSED[name].format(name=name)}")
    if name not in TRIPLET_MINERS:
        raise InputError(f"pytorch-metric-learning has no triplet miner {name!r}{nearest(name, TRIPLET_MINERS)}")
    kind = getattr(miners, name)
    parameters = [
        option.replace(kind=option.KEYWORD_ONLY)
        for option in inspect.signature(kind).parameters.values()
        if option.kind is not option.VAR_KEYWORD
    ]

    def make(**options: Any) -> PmlMiner:
        faults: list[str] = []
        options = read_options(make, options, f"pml:{name}", faults, owner=f"pml:{name}")
        refuse(faults)
        return PmlMiner(kind(**options, distance=EncoderDistance()))

    make.__signature__ = inspect.Signature(parameters, return_annotation=PmlMiner)  # type: ignore[attr-defined]
    make.__name__, make.__doc__ = name, kind.__doc__
    return make
