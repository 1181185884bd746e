"""Killed and resumed, a run ends as if nothing had happened; the benchmark does this to every recipe, twenty times each."""

from pathlib import Path

import torch

import durability
from sbirlib.training import checkpoint


def test_a_killed_run_ends_where_the_undisturbed_one_ends() -> None:
    outcome = durability.survive("mathm-gan", kills=4, steps=4)
    assert outcome.differing == []
    assert outcome.kills == 4
    assert outcome.inside_a_save >= 1
    assert outcome.full_disk == "an error; the checkpoint is whole"


def test_a_run_that_ended_elsewhere_is_told(tmp_path: Path) -> None:
    about = {"recipe": {}, "training": {"position": {"phase": 0}}}
    for place, value in (("one", 1.0), ("other", 2.0)):
        checkpoint.write(tmp_path / place / "checkpoint.safetensors", {"same": torch.ones(2), "weight": torch.full((2,), value)}, about)
    assert durability.differing(tmp_path / "one", tmp_path / "other") == ["weight"]
