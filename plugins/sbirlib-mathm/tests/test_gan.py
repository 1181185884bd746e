"""The discriminator's test (appendix A.1): against a frozen encoder it tells modalities apart, against one that trains it is misled."""

from pathlib import Path
from typing import Any

import numpy as np

from sbirlib import build
from sbirlib.testing.world import separable
from sbirlib.visual.curves import read_log

STEPS = 80


def accuracies(out: Path, rules: list[dict[str, Any]]) -> list[float]:
    """The discriminator's accuracy on each batch of a run."""
    pipeline = build(
        "mathm-gan",
        encoder={"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 16},
        transform={"size": 32, "flip": False, "rotation": 0.0, "scale": [1.0, 1.0], "shift": 0.0},  # the same images at every step
        sampler={"categories": 4, "per_modality": 4},
        **{
            "phases.0.steps": STEPS,
            "phases.0.schedule": {"name": "constant"},
            "phases.0.optimizer.lr": 1e-3,
            "phases.0.discriminator.lr": 3e-2,
            "phases.0.weights.modality_adversary": 3.0,
            "phases.0.parameters": rules,
        },
    )
    pipeline.fit(separable(), out=out, device="cpu", log_every=1, progress=False, tensorboard=False)
    return [record["logged"]["modality_accuracy"] for record in read_log(out) if "losses" in record]


def test_the_discriminator_wins_against_a_frozen_encoder_and_loses_against_one_that_trains(tmp_path: Path) -> None:
    frozen = accuracies(tmp_path / "frozen", [{"of": "encoder", "frozen": True}])
    trained = accuracies(tmp_path / "trained", [])
    assert len(frozen) == len(trained) == STEPS
    assert np.mean(frozen[-20:]) > 0.9
    assert np.mean(trained[-20:]) < np.mean(frozen[-20:]) - 0.1
