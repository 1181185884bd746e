"""Plugin API: all names of sbirlib that a plugin may import."""

from sbirlib.data.around import Around
from sbirlib.data.samplers import Pairs
from sbirlib.distance import at_least_float32, euclidean, root
from sbirlib.edges import drawings
from sbirlib.encoders.adapters.adapter import Adapter
from sbirlib.encoders.backbone import Backbone, PixelMean, PixelStd
from sbirlib.errors import InputError, nearest
from sbirlib.gather import lengths
from sbirlib.interfaces import (
    PHOTO,
    SKETCH,
    AdversarialLoss,
    Batch,
    Classifier,
    Component,
    Encoded,
    Encoder,
    Evaluator,
    Features,
    Labels,
    Loss,
    Miner,
    Step,
    Transform,
    Triplets,
    Wrapper,
)
from sbirlib.losses.cross_entropy import check_labels
from sbirlib.losses.triplet import Triplet, mean, violations
from sbirlib.miners.hardest import hardest, join, pairs, semi_hard
from sbirlib.options import Betas
from sbirlib.processes import world_size

__all__ = [
    "PHOTO",
    "SKETCH",
    "Adapter",
    "AdversarialLoss",
    "Around",
    "Backbone",
    "Batch",
    "Betas",
    "Classifier",
    "Component",
    "Encoded",
    "Encoder",
    "Evaluator",
    "Features",
    "InputError",
    "Labels",
    "Loss",
    "Miner",
    "Pairs",
    "PixelMean",
    "PixelStd",
    "Step",
    "Transform",
    "Triplet",
    "Triplets",
    "Wrapper",
    "at_least_float32",
    "check_labels",
    "drawings",
    "euclidean",
    "hardest",
    "join",
    "lengths",
    "mean",
    "nearest",
    "pairs",
    "root",
    "semi_hard",
    "violations",
    "world_size",
]
