"""Cross-domain generative learning: sketches decoded from sketches and photos (Pang et al. 2017, figure 3)."""

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
    """Test sketches and their photos, each beside the sketch decoded from it.

    InputError for a model without a decoder, such as an exported one, and for data without instances.
    """
    decoder = next((loss.decoder for loss in pipeline.losses.values() if isinstance(loss, SketchDecoder)), None)
    if decoder is None:
        raise InputError("this model has no loss 'sketch_decoder', or was exported without it: load the run's checkpoint")
    test = dataset.test
    photo_of = {int(i): row for row, i in enumerate(test.photos.instance.tolist()) if i >= 0}
    candidates = [row for row, i in enumerate(test.sketches.instance.tolist()) if i in photo_of]
    if not candidates:
        raise InputError(f"{dataset.name} does not tell which photo a sketch was drawn of, so no pair can be shown")
    selection = np.random.default_rng(seed).choice(candidates, min(rows, len(candidates)), replace=False).tolist()
    sides = {"sketch": (test.sketches, selection), "photo": (test.photos, [photo_of[int(test.sketches.instance[i])] for i in selection])}
    pictures: dict[str, list[Image.Image]] = {}
    pipeline.model.eval()
    with torch.inference_mode():
        for name, (side, indices) in sides.items():
            images = torch.stack([pipeline.transform.prepare(side.read(i), int(side.modality[i])) for i in indices]).float() / 255
            labels = (torch.as_tensor(getattr(side, label)[indices]) for label in ("modality", "category", "instance"))
            code = F.normalize(pipeline.encoder(Batch(images, *labels)).embedding, dim=1)
            pictures |= {name: to_pictures(images), f"from the {name}": to_pictures((decoder(code) + 1) / 2)}
    return columns(pictures)
