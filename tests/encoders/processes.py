"""Training with recalibrated norms of each modality in one process of a group, for comparison with one process.

torchrun --nproc-per-node 2 -m tests.encoders.processes FILE
"""

from __future__ import annotations

import sys

import torch
from tests.processes.recipes import speckled

from sbirlib import build
from sbirlib.processes import everyone, rank
from sbirlib.training.steps import StepEvent


def main() -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # rounding would grow from step to step
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    pipeline = build(
        encoder={"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 8, "norms": "modality", "recalibrate": True},
        transform={"size": 64},
        losses=["cross_entropy"],
        sampler={"name": "shuffled", "size": 8},
        phases=[{"steps": 8, "optimizer": {"name": "sgd", "lr": 1e-2}}],
    )
    pipeline.encoder.double()
    losses, alone = list[float](), list[bool]()

    def note(event: StepEvent) -> None:
        losses.append(event.losses["cross_entropy"])
        alone.append(bool((event.step.batch.modality == event.step.batch.modality[0]).all()))

    pipeline.fit(speckled(), device="cpu", progress=False, tensorboard=False, on_step=note)
    shares = everyone(any(alone))
    if rank() == 0:
        torch.save({"losses": losses, "weights": pipeline.model.tensors(), "alone": any(shares)}, sys.argv[1])


if __name__ == "__main__":
    main()
