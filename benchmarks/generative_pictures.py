"""What the decoder draws, to be looked at (Pang et al. 2017, figure 3)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import Batch
from sbirlib.pipeline import Pipeline
from sbirlib.visual.columns import columns
from sbirlib.visual.layout import to_pictures
from sbirlib_generative.sketch_decoder import SketchDecoder


def drawings(pipeline: Pipeline, dataset: Dataset, *, rows: int = 8, seed: int = 0) -> Image.Image:
    """Sketches of the test part and their photos, each beside what the decoder draws from it.

    InputError for a model without a decoder, as an exported one is, and for data that tells no instances.
    """
    decoder = next((loss.decoder for loss in pipeline.losses.values() if isinstance(loss, SketchDecoder)), None)
    if decoder is None:
        raise InputError("this model has no loss 'sketch_decoder', or was exported without it: load the run's checkpoint")
    part = dataset.test
    photo_of = {int(i): row for row, i in enumerate(part.photos.instance.tolist()) if i >= 0}
    paired = [row for row, i in enumerate(part.sketches.instance.tolist()) if i in photo_of]
    if not paired:
        raise InputError(f"{dataset.name} does not tell which photo a sketch was drawn of, so no pair can be shown")
    chosen = np.random.default_rng(seed).choice(paired, min(rows, len(paired)), replace=False).tolist()
    sides = {"sketch": (part.sketches, chosen), "photo": (part.photos, [photo_of[int(part.sketches.instance[i])] for i in chosen])}
    shown: dict[str, list[Image.Image]] = {}
    pipeline.model.eval()
    with torch.inference_mode():
        for name, (images, indices) in sides.items():
            seen = torch.stack([pipeline.transform.prepare(images.read(i), int(images.modality[i])) for i in indices]).float() / 255
            labels = (torch.as_tensor(getattr(images, label)[indices]) for label in ("modality", "category", "instance"))
            code = F.normalize(pipeline.encoder(Batch(seen, *labels)).embedding, dim=1)
            shown |= {name: to_pictures(seen), f"from the {name}": to_pictures((decoder(code) + 1) / 2)}
    return columns(shown)
