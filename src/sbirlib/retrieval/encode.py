"""Encoding of a dataset's images to vectors, for evaluation or an index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import RLock
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.gather import gather_rows
from sbirlib.interfaces import Batch, Classifier, Encoded, Encoder, Features, Transform
from sbirlib.processes import everyone, rank, world_size
from sbirlib.progress import track

_LOCKS: WeakKeyDictionary[Encoder, RLock] = WeakKeyDictionary()


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
    shared: bool = False,
) -> Encoded:
    """Encode all images, as queries [N, S, V] or a gallery [N, V], in float32 on the CPU, with labels and the classifier's logits [N, C].

    The encoder and classifier are moved to `device` and run in eval mode; the modes of their modules are restored afterwards. `progress`
    shows a bar after two seconds. If `shared`, all processes call this, each encodes some of the batches, and all get the vectors of all.
    """
    if side not in ("query", "gallery"):
        raise InputError(f"side is 'query' or 'gallery', got {side!r}")
    if len(dataset) == 0:
        raise InputError(f"{dataset.name} has no image to encode as {side}: check the folder, the split and the modality")
    components: list[nn.Module] = [component.to(device) for component in (encoder, classifier) if component is not None]
    vectors_of = encoder.query_vectors if side == "query" else encoder.gallery_vectors
    world = world_size() if shared else 1
    starts = range(0, len(dataset), batch_size)[rank() if shared else 0 :: world]
    vectors, logits = list[Tensor](), list[Tensor]()
    batches: Iterable[Batch] = _batches(dataset, transform, starts, batch_size)
    if progress:
        batches = track(batches, total=len(starts), label=f"encoding {dataset.name}")
    with torch.inference_mode(), _eval_mode(components), _cached_features(encoder) as features_of:
        for batch in batches:
            on_device = batch.to(device)
            with lock_of(encoder):
                vectors.append(vectors_of(on_device).float().cpu())
                if classifier is not None:
                    logits.append(classifier.logits(features_of(on_device)).float().cpu())
    rows = torch.cat(
        [torch.arange(start, min(start + batch_size, len(dataset))) for start in starts] or [torch.empty(0, dtype=torch.int64)]
    )
    vectors, logits = ([_of_all(values, rows)] if world > 1 else values for values in (vectors, logits))
    return Encoded(torch.cat(vectors), *_labels(dataset, slice(None)), logits=torch.cat(logits) if classifier is not None else None)


def lock_of(encoder: Encoder) -> RLock:
    """The lock under which threads encode: an encoder may keep the modality of a batch, or another state, while it encodes it."""
    return _LOCKS.setdefault(encoder, RLock())


def _of_all(batches: list[Tensor], rows: Tensor) -> Tensor:
    """Values [n, ...] of this process, those of the images `rows` [n], as values [N, ...] of the images of all processes."""
    widths = [shape for shape in everyone(list(batches[0].shape[1:]) if batches else None) if shape is not None]
    if not widths:
        return torch.empty(0)
    own = torch.cat(batches) if batches else torch.empty(0, *widths[0])
    return gather_rows(own)[gather_rows(rows).argsort()]


def _batches(dataset: Dataset, transform: Transform, starts: Sequence[int], batch_size: int) -> Iterator[Batch]:
    """Batches that start at these images, in order; threads read the next batch while the caller encodes one."""

    def prepare(i: int) -> Tensor:
        """The prepared image i, uint8 [3, S, S]."""
        return transform.prepare(dataset.read(i), int(dataset.modality[i]))

    with ThreadPoolExecutor(dataset.threads) as pool:
        rows = [slice(start, min(start + batch_size, len(dataset))) for start in starts]
        following = pool.map(prepare, range(len(dataset))[rows[0]] if rows else [])
        for number, own in enumerate(rows):
            images = torch.stack(list(following)).float() / 255
            following = pool.map(prepare, range(len(dataset))[rows[number + 1]] if number + 1 < len(rows) else [])
            yield Batch(images, *_labels(dataset, own))


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
