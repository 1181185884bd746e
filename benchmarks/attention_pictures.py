"""What the comparison of a sketch and its photo looks at under the sketch's own descriptor and under another (Pang et al. 2019, figure 3)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from landmark_pictures import reddened
from sbirlib.data.batches import Prepared, load
from sbirlib.data.dataset import Dataset
from sbirlib.encoders.backbone import Backbone
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch
from sbirlib.pipeline import Pipeline
from sbirlib.visual.columns import columns
from sbirlib.visual.layout import to_pictures
from sbirlib_vtd.adaptive import Adaptive
from sbirlib_vtd.descriptor import Descriptor
from sbirlib_vtd.gate import weights


def attention(pipeline: Pipeline, dataset: Dataset, *, rows: int = 6, seed: int = 0) -> Image.Image:
    """Sketches of the test part and their photos, reddened where Grad-CAM finds what their gated similarity comes from: under the sketch's own
    row of the dictionary, and under that of the next sketch that took another."""
    encoder = pipeline.encoder
    if not (isinstance(encoder, Adaptive) and isinstance(encoder.encoder, Backbone) and isinstance(encoder.descriptor, Descriptor)):
        raise InputError("figure 3 is of the encoder adaptive, with a dictionary, around backbone or cse")
    batch = _pairs(pipeline, dataset.test, rows, seed)
    pipeline.model.eval()
    with torch.no_grad():
        sketches = batch[batch.modality == SKETCH]
        taken = encoder.descriptor(sketches).rows["assignment"].argmax(1)
    shown = {"sketch": to_pictures(sketches.images), "photo": to_pictures(batch.images[batch.modality == PHOTO])}
    for name, row in (("its row", taken), ("another's", _another(taken))):
        described = encoder.descriptor.dictionary[row]
        gate = encoder.gates(encoder.gate_mean(described), encoder.gate_log_variance(described))[:, 0]
        for modality, heat in zip(("sketch", "photo"), heats(encoder.encoder, batch, gate.detach()), strict=True):
            own = batch.images[batch.modality == (SKETCH if modality == "sketch" else PHOTO)]
            shown[f"{modality}, {name}"] = to_pictures(reddened(own, heat))
    return columns(shown)


def heats(encoder: Backbone, batch: Batch, gate: Tensor) -> tuple[Tensor, Tensor]:
    """Grad-CAM (Selvaraju et al. 2017) of minus the gated distance of each pair, of sketches and of photos [n, H', W']: the maps of a batch of n
    sketches and their n photos, each channel weighed by its mean slope, where positive."""
    maps = encoder.feature_map(batch.images, batch.modality).detach().requires_grad_()
    vectors = F.normalize(encoder.embedding(encoder.backbone.forward_head(maps)), dim=1)  # type: ignore[operator]
    sketch, photo = batch.modality == SKETCH, batch.modality == PHOTO
    similarity = -(weights(gate) * (vectors[sketch] - vectors[photo]).square()).sum()
    (slope,) = torch.autograd.grad(similarity, maps)
    heat = (slope.mean((2, 3), keepdim=True) * maps.detach()).sum(1).relu()
    return heat[sketch], heat[photo]


def _another(taken: Tensor) -> Tensor:
    """For each of the rows taken [n] the next that differs, or itself where all are one."""
    found = taken.clone()
    for i in range(len(taken)):
        others = [row for row in torch.roll(taken, -i).tolist() if row != int(taken[i])]
        found[i] = others[0] if others else taken[i]
    return found


def _pairs(pipeline: Pipeline, dataset: Dataset, rows: int, seed: int) -> Batch:
    """So many sketches of other instances, each with a photo of its own; first the sketches, then the photos in the same order."""
    sketches, photos = (np.flatnonzero((dataset.modality == m) & (dataset.instance >= 0)) for m in (SKETCH, PHOTO))
    of = {int(dataset.instance[i]): int(i) for i in photos[::-1]}
    drawn = {int(dataset.instance[i]): int(i) for i in np.random.default_rng(seed).permutation(sketches) if int(dataset.instance[i]) in of}
    if not drawn:
        raise InputError(f"{dataset.name} has no sketch with a photo of its own: figure 3 is of such pairs")
    chosen = list(drawn.items())[:rows]
    indices = [i for _, i in chosen] + [of[instance] for instance, _ in chosen]
    return next(load(Prepared(dataset, pipeline.transform), [indices], seed=seed, epoch=0, augment=False))
