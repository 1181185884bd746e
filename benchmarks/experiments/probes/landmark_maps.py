"""Landmark pooling on cached maps of a frozen backbone: the worth of places, offsets and the second head (Zhang et al. 2019)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sbirlib.data.batches import Prepared, load
from sbirlib.data.dataset import SPLITS, Dataset
from sbirlib.data.transforms import Sbir
from sbirlib.files import atomic_write
from sbirlib.plugin_api import Backbone, drawings
from sbirlib.progress import track
from sbirlib_landmarks.points import farthest_points
from sbirlib_landmarks.pooling import Projection, landmark_pool, own_cells, project

BATCH, SAMPLE, WEIGHT_DECAY = 128, 500, 1e-3
CACHE = Path(__file__).parent.parent.parent / "runs" / "maps"


_LAST: dict[Path, dict[str, Tensor]] = {}


@dataclass(frozen=True)
class Maps:
    """Maps [N, C, H, W] in half precision, and landmarks (x, y) [N, L, 2] on the lines, of images of a side in pixels."""

    features: Tensor
    points: Tensor
    side: int

    def __getitem__(self, rows: Tensor) -> Maps:
        return Maps(self.features[rows], self.points[rows], self.side)


class Head(nn.Module):
    """Class logits [B, K] from maps: of the features pooled at landmarks, and of a branch of filters, if any."""

    def __init__(
        self, channels: int, classes: int, landmarks: int, *, pooling: str, projection: Projection, offsets: bool, branch: bool
    ) -> None:
        super().__init__()
        self.pooling, self.projection = pooling, projection
        self.classifier = nn.Linear(channels, classes)
        self.offsets = nn.Conv2d(channels, 2 * landmarks, 1) if offsets else None
        self.filters = nn.Conv2d(channels, classes, 3, padding=1) if branch else None
        if self.offsets is not None:
            nn.init.zeros_(self.offsets.weight)
            nn.init.zeros_(self.offsets.bias)  # type: ignore[arg-type]

    def forward(self, maps: Maps) -> tuple[Tensor, Tensor | None]:
        """Logits [B, K] of the pooled features, and those of the branch where there is one."""
        features = maps.features.float()
        branch = None if self.filters is None else self.filters(features).mean((2, 3))
        return self.classifier(self.pooled(features, maps)), branch

    def pooled(self, features: Tensor, maps: Maps) -> Tensor:
        """Features [B, C] of maps [B, C, H, W]."""
        if self.pooling == "whole":
            return features.mean((2, 3))
        cells = (features.shape[2], features.shape[3])
        places = project(maps.points, (maps.side, maps.side), cells, self.projection)
        if self.pooling == "random":
            places = torch.floor(torch.rand(places.shape) * cells[0])
        if self.offsets is not None:
            own = own_cells(places, cells)[:, :, None, None].expand(-1, -1, 2, 1)
            places = places + self.offsets(features).flatten(2).unflatten(1, (-1, 2)).gather(3, own)[..., 0]
        return landmark_pool(features, places)


def measure(
    data: Dataset,
    *,
    part: str,
    seed: int,
    encoder: dict[str, Any],
    size: int,
    channels: int,
    landmarks: int,
    epochs: int,
    lr: float,
    pooling: Literal["whole", "landmarks", "random", "known"] = "landmarks",
    projection: Projection = "centre",
    offsets: bool = False,
    branch: bool = False,
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64]]:
    """Accuracy [Q] of the images of the split `part`, right or wrong, after a head was trained on cached maps, and their category [Q].

    With `pooling` "known" the landmarks are those of the world "parts": along the part that tells the category.
    The channels of the maps are their first principal components over the training split, of unit variance on the mean.
    """
    data = data.sketches
    assert data.split is not None
    train, test = (torch.from_numpy(np.flatnonzero(data.split == SPLITS.index(name))) for name in ("train", part))
    labels = torch.from_numpy(data.category)
    maps = reduced(maps_of(data, encoder, size, landmarks), train, channels)
    if pooling == "known":
        maps, pooling = Maps(maps.features, known_points(data, landmarks, size), size), "landmarks"
    torch.manual_seed(seed)  # once the maps are there, which may have drawn random numbers
    head = Head(channels, len(data.categories), landmarks, pooling=pooling, projection=projection, offsets=offsets, branch=branch)
    if pooling != "random" and not (offsets or branch):
        maps, head.pooling = once(head, maps), "whole"
    fit(head, maps, labels, train, epochs=epochs, lr=lr)
    with torch.inference_mode():
        right = torch.cat([fused(head(maps[rows])).argmax(1) == labels[rows] for rows in test.split(BATCH)])
    return {"accuracy": right.double().numpy()}, labels[test].numpy()


def known_points(data: Dataset, landmarks: int, size: int) -> Tensor:
    """Points (x, y) [N, L, 2] in pixels on the parts of sketches of the world "parts"."""
    reader: Any = getattr(data.reader, "reader", data.reader)
    points = np.stack([reader.part_points(int(i), landmarks) for i in data.index])
    return torch.from_numpy((points * size).clip(0, size - 1)).float()


def once(head: Head, maps: Maps) -> Maps:
    """Maps of one cell [N, C, 1, 1], the pooled features, where training does not change how they are pooled."""
    with torch.inference_mode():
        blocks = [maps[rows] for rows in torch.arange(len(maps.features)).split(BATCH)]
        pooled = torch.cat([head.pooled(block.features, block) for block in blocks])
    return Maps(pooled[:, :, None, None].clone(), maps.points, maps.side)


def fit(head: Head, maps: Maps, labels: Tensor, train: Tensor, *, epochs: int, lr: float) -> None:
    """Train a head on the images `train` [n] of all labels [N] by the sum of its cross entropies; the rate falls to zero as a cosine."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(train) // BATCH))
    for _ in track(range(epochs), total=epochs, label="epochs"):
        for rows in train[torch.randperm(len(train))].split(BATCH):
            loss = sum(F.cross_entropy(logits, labels[rows]) for logits in head(maps[rows]) if logits is not None)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[union-attr]
            optimizer.step()
            schedule.step()


def fused(logits: tuple[Tensor, Tensor | None]) -> Tensor:
    """Mean of the log-probabilities [B, K] of the heads."""
    return torch.stack([each.log_softmax(1) for each in logits if each is not None]).mean(0)


def maps_of(data: Dataset, encoder: dict[str, Any], size: int, landmarks: int) -> Maps:
    """Maps and landmarks of all images of a dataset by a frozen backbone, computed once: a file under benchmarks/runs keeps them."""
    key = json.dumps([data.name, [data.key(i) for i in range(len(data))], encoder, size, landmarks])
    path = CACHE / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    if not path.is_file():
        features, points = compute(data, encoder, size, landmarks)
        with atomic_write(path) as partial:
            save_file({"features": features, "points": points}, partial)
    if path not in _LAST:
        _LAST.clear()
        _LAST[path] = load_file(path)
    return Maps(**_LAST[path], side=size)


def compute(data: Dataset, encoder: dict[str, Any], size: int, landmarks: int) -> tuple[Tensor, Tensor]:
    """Maps [N, C, H, W] in half precision and landmarks [N, L, 2] of all images of a dataset."""
    backbone = Backbone(**encoder, dim=0).eval()
    backbone.load_weights()
    prepared = Prepared(data, Sbir(size=size))
    starts = range(0, len(data), BATCH)
    batches = load(prepared, [list(range(start, min(start + BATCH, len(data)))) for start in starts], seed=0, epoch=0, augment=False)
    features, points = list[Tensor](), list[Tensor]()
    with torch.inference_mode():
        for batch in track(batches, total=len(starts), label="maps"):
            images, lines = drawings(batch, "sobel")
            features.append(backbone.feature_map(images).half())
            points.append(farthest_points(lines, landmarks))
    return torch.cat(features).contiguous(), torch.cat(points).contiguous()


def reduced(maps: Maps, train: Tensor, channels: int) -> Maps:
    """Maps [N, channels, H, W] of the first principal components over the cells of the images `train` [n], of unit variance on the mean."""
    cells = torch.cat([maps.features[rows].float().mean((2, 3)) for rows in train.split(BATCH)])
    mean, sample = cells.mean(0), train[torch.linspace(0, len(train) - 1, min(len(train), SAMPLE)).long()]
    rows = maps.features[sample].float().permute(0, 2, 3, 1).flatten(0, 2) - mean
    values, vectors = torch.linalg.eigh((rows.T @ rows / len(rows)).double())  # in single precision it may not converge where rows are few
    basis = (vectors[:, -channels:] / values[-channels:].mean().sqrt()).float()
    features = [
        torch.einsum("bchw,cd->bdhw", maps.features[i].float() - mean[:, None, None], basis)
        for i in torch.arange(len(maps.features)).split(BATCH)
    ]
    return Maps(torch.cat(features), maps.points, maps.side)
