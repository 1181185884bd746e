"""Grad-CAM of the gated similarity of a sketch and its photo, under two descriptors (Pang et al. 2019, figure 3)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.figures.landmarks import redden
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
    """Test sketches and their photos, with the Grad-CAM of their gated similarity in red: under the sketch's own dictionary row, and under
    that of the next sketch with another row."""
    encoder = pipeline.encoder
    if not (isinstance(encoder, Adaptive) and isinstance(encoder.encoder, Backbone) and isinstance(encoder.descriptor, Descriptor)):
        raise InputError("figure 3 is of the encoder adaptive, with a dictionary, around backbone or cse")
    batch = _pairs(pipeline, dataset.test, rows, seed)
    pipeline.model.eval()
    with torch.no_grad():
        sketches = batch[batch.modality == SKETCH]
        own_rows = encoder.descriptor(sketches).rows["assignment"].argmax(1)
    pictures = {"sketch": to_pictures(sketches.images), "photo": to_pictures(batch.images[batch.modality == PHOTO])}
    for name, row in (("its row", own_rows), ("another's", _next_different(own_rows))):
        description = encoder.descriptor.dictionary[row]
        gate = encoder.gates(encoder.gate_mean(description), encoder.gate_log_variance(description))[:, 0]
        for modality, heat in zip(("sketch", "photo"), grad_cam(encoder.encoder, batch, gate.detach()), strict=True):
            images = batch.images[batch.modality == (SKETCH if modality == "sketch" else PHOTO)]
            pictures[f"{modality}, {name}"] = to_pictures(redden(images, heat))
    return columns(pictures)


def grad_cam(encoder: Backbone, batch: Batch, gate: Tensor) -> tuple[Tensor, Tensor]:
    """Grad-CAM (Selvaraju et al. 2017) of the negative gated distance of each pair: maps [n, H', W'] of sketches and of photos.

    The batch holds n sketches and their n photos; `gate` is [n, V]. Each channel is weighted by its mean gradient; negative sums are 0.
    """
    maps = encoder.feature_map(batch.images, batch.modality).detach().requires_grad_()
    vectors = F.normalize(encoder.embedding(encoder.backbone.forward_head(maps)), dim=1)  # type: ignore[operator]
    sketch, photo = batch.modality == SKETCH, batch.modality == PHOTO
    similarity = -(weights(gate) * (vectors[sketch] - vectors[photo]).square()).sum()
    (gradient,) = torch.autograd.grad(similarity, maps)
    heat = (gradient.mean((2, 3), keepdim=True) * maps.detach()).sum(1).relu()
    return heat[sketch], heat[photo]


def _next_different(rows: Tensor) -> Tensor:
    """For each of the rows [n] the next one that differs from it, cyclically; the row itself where all are equal."""
    result = rows.clone()
    for i in range(len(rows)):
        others = [row for row in torch.roll(rows, -i).tolist() if row != int(rows[i])]
        result[i] = others[0] if others else rows[i]
    return result


def _pairs(pipeline: Pipeline, dataset: Dataset, rows: int, seed: int) -> Batch:
    """Batch of random sketches of different instances, then a photo of each in the same order."""
    sketches, photos = (np.flatnonzero((dataset.modality == m) & (dataset.instance >= 0)) for m in (SKETCH, PHOTO))
    photo_of = {int(dataset.instance[i]): int(i) for i in photos[::-1]}
    order = np.random.default_rng(seed).permutation(sketches)
    sketch_of = {int(dataset.instance[i]): int(i) for i in order if int(dataset.instance[i]) in photo_of}
    if not sketch_of:
        raise InputError(f"{dataset.name} has no sketch with a photo of its own: figure 3 is of such pairs")
    pairs = list(sketch_of.items())[:rows]
    indices = [i for _, i in pairs] + [photo_of[instance] for instance, _ in pairs]
    return next(load(Prepared(dataset, pipeline.transform), [indices], seed=seed, epoch=0, augment=False))
