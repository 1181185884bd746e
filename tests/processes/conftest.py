"""A folder of figures with a recipe and a split, for commands that start several processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.conftest import write_figures

RECIPE = """
encoder = { name = "backbone", backbone = "test_resnet", dim = 8, pretrained = false }
miner = "modality_hard"
losses = ["cross_entropy", "balanced_triplet"]
transform = { size = 32 }
sampler = { categories = 2, per_modality = 2 }
phases = [{ steps = 6, optimizer = { lr = 1e-3 } }]
"""
SPLIT = {"figures": {"unseen": ["class0"], "validation": ["class1", "class2"]}}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six classes with six sketches and photos each, a recipe, and a split with two validation classes."""
    root = tmp_path_factory.mktemp("data")
    write_figures(root / "figures", each=6)
    (root / "recipe.toml").write_text(RECIPE)
    (root / "splits.json").write_text(json.dumps(SPLIT))
    return root
