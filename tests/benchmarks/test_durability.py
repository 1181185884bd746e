"""The durability benchmark on one recipe, with few kills."""

from pathlib import Path

import torch

from benchmarks.durability import survival
from sbirlib.training import checkpoint


def test_a_killed_run_ends_bit_identical_to_an_undisturbed_one() -> None:
    outcome = survival.survive("mathm-gan", kills=4, steps=4)
    assert outcome.differing == []
    assert outcome.kills == 4
    assert outcome.inside_a_save >= 1
    assert outcome.full_disk == "an error; the checkpoint is whole"


def test_differing_tensors_are_named(tmp_path: Path) -> None:
    about = {"recipe": {}, "training": {"position": {"phase": 0}}}
    for place, value in (("one", 1.0), ("other", 2.0)):
        checkpoint.write(tmp_path / place / "checkpoint.safetensors", {"same": torch.ones(2), "weight": torch.full((2,), value)}, about)
    assert survival.differing(tmp_path / "one", tmp_path / "other") == ["weight"]
