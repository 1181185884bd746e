"""A dataset's images as vectors, ready to be measured or indexed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Classifier, Encoded, Encoder, Features, Transform
from sbirlib.memory import keep_freed_memory
from sbirlib.progress import track


def encode(
    encoder: Encoder,
    dataset: Dataset,
    transform: Transform,
    *,
    role: Literal["query", "gallery"],
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    progress: bool = False,
    classifier: Classifier | None = None,
) -> Encoded:
    """Vectors of all images, [n, S, V] as queries or [n, V] as a gallery, in float32 on the CPU, with labels and the classifier's logits.

    Parts are moved to `device` and run in eval mode, which is then put back as it was. `progress` shows a bar after two seconds.
    """
    if role not in ("query", "gallery"):
        raise InputError(f"role is 'query' or 'gallery', got {role!r}")
    if len(dataset) == 0:
        raise InputError(f"{dataset.name} has no image to encode as {role}: check the folder, the split and the modality that was chosen")
    if torch.device(device).type == "cpu":
        keep_freed_memory()
    parts: list[nn.Module] = [part.to(device) for part in (encoder, classifier) if part is not None]
    vectors_of = encoder.query_vectors if role == "query" else encoder.gallery_vectors
    vectors, logits = [], []
    batches: Iterable[Batch] = _batches(dataset, transform, batch_size)
    if progress:
        batches = track(batches, total=math.ceil(len(dataset) / batch_size), label=f"encoding {dataset.name}")
    with torch.inference_mode(), _eval_mode(parts), _remembering(encoder) as features_of:
        for batch in batches:
            on_device = batch.to(device)
            vectors.append(vectors_of(on_device).float().cpu())
            if classifier is not None:
                logits.append(classifier.logits(features_of(on_device)).float().cpu())
    return Encoded(torch.cat(vectors), *_labels(dataset, slice(None)), logits=torch.cat(logits) if logits else None)


def _batches(dataset: Dataset, transform: Transform, batch_size: int) -> Iterator[Batch]:
    """Batches in order; while one is encoded, threads read the next."""

    def prepare(i: int) -> Tensor:
        return transform.prepare(dataset.read(i), int(dataset.modality[i]))

    with ThreadPoolExecutor(dataset.threads) as pool:
        every = range(len(dataset))
        following = pool.map(prepare, every[:batch_size])
        for start in every[::batch_size]:
            rows = slice(start, start + batch_size)
            images = torch.stack(list(following)).float() / 255
            following = pool.map(prepare, every[rows.stop : rows.stop + batch_size])
            yield Batch(images, *_labels(dataset, rows))


def _labels(dataset: Dataset, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
    return torch.tensor(dataset.modality[rows]), torch.tensor(dataset.category[rows]), torch.tensor(dataset.instance[rows])


@contextmanager
def _remembering(encoder: Encoder) -> Iterator[Callable[[Batch], Features]]:
    """The encoder's features of a batch, which are not computed again where making the batch's vectors gave them already."""
    last: dict[str, Any] = {}
    hook = encoder.register_forward_hook(lambda _, given, found: last.update(batch=given[0], features=found))

    def features_of(batch: Batch) -> Features:
        if last.get("batch") is not batch:
            encoder(batch)
        features: Features = last["features"]
        return features

    try:
        yield features_of
    finally:
        hook.remove()


@contextmanager
def _eval_mode(parts: list[nn.Module]) -> Iterator[None]:
    """Each module apart, for a frozen one inside a training one is in eval mode already and must stay so."""
    modes = {module: module.training for part in parts for module in part.modules()}
    try:
        for part in parts:
            part.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training
