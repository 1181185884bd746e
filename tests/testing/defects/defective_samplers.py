"""Sampler with one defect."""

import torch

from sbirlib.interfaces import Labels


class GlobalDraw:
    """A sampler that draws from the global generator."""

    def __init__(self, *, size: int = 4) -> None:
        self.size = size

    def batches(self, labels: Labels, *, seed: int, epoch: int) -> list[list[int]]:
        rows: list[int] = torch.randperm(len(labels)).tolist()
        return [rows[: self.size]]
