"""Encoding of a dataset's images to vectors, for evaluation or an index."""

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
from sbirlib.progress import track


def encode(
    encoder: Encoder,
    dataset: Dataset,
    transform: Transform,
    *,
    side: Literal["query", "gallery"],
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    progress: bool = False,
    classifier: Classifier | None = None,
) -> Encoded:
    """Encode all images, as queries [N, S, V] or a gallery [N, V], in float32 on the CPU, with labels and the classifier's logits [N, C].

    The encoder and classifier are moved to `device` and run in eval mode; the modes of their modules are restored afterwards. `progress`
    shows a bar after two seconds.
    """
    if side not in ("query", "gallery"):
        raise InputError(f"side is 'query' or 'gallery', got {side!r}")
    if len(dataset) == 0:
        raise InputError(f"{dataset.name} has no image to encode as {side}: check the folder, the split and the modality")
    components: list[nn.Module] = [component.to(device) for component in (encoder, classifier) if component is not None]
    vectors_of = encoder.query_vectors if side == "query" else encoder.gallery_vectors
    vectors, logits = [], []
    batches: Iterable[Batch] = _batches(dataset, transform, batch_size)
    if progress:
        batches = track(batches, total=math.ceil(len(dataset) / batch_size), label=f"encoding {dataset.name}")
    with torch.inference_mode(), _eval_mode(components), _cached_features(encoder) as features_of:
        for batch in batches:
            on_device = batch.to(device)
            vectors.append(vectors_of(on_device).float().cpu())
            if classifier is not None:
                logits.append(classifier.logits(features_of(on_device)).float().cpu())
    return Encoded(torch.cat(vectors), *_labels(dataset, slice(None)), logits=torch.cat(logits) if logits else None)


def _batches(dataset: Dataset, transform: Transform, batch_size: int) -> Iterator[Batch]:
    """Batches in order; threads read the next batch while the caller encodes one."""

    def prepare(i: int) -> Tensor:
        """The prepared image i, uint8 [3, S, S]."""
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
def _cached_features(encoder: Encoder) -> Iterator[Callable[[Batch], Features]]:
    """Yield a function from a batch to its features, which reuses those of the encoder's last forward if that was of the same batch."""
    last: dict[str, Any] = {}
    hook = encoder.register_forward_hook(lambda _, args, features: last.update(batch=args[0], features=features))

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
def _eval_mode(components: list[nn.Module]) -> Iterator[None]:
    """Eval mode for a while; the mode of each module is restored apart, as a frozen one inside a training one must stay in eval mode."""
    modes = {module: module.training for component in components for module in component.modules()}
    try:
        for component in components:
            component.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training
