"""`sbirlib pack` as a command, and a packed dataset where a command takes a folder."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sbirlib.cli import app
from sbirlib.data.named import dataset
from sbirlib.data.packed import packed
from sbirlib.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five classes of three noisy pictures in each modality, 40 pixels wide."""
    random = np.random.default_rng(0)
    for category in ("ant", "bee", "cat", "dog", "eel"):
        for modality in ("sketch", "photo"):
            place = tmp_path / "data" / modality / category
            place.mkdir(parents=True)
            for i in range(3):
                pixels = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{i}{'-1' * (modality == 'sketch')}.png")
    return tmp_path / "data"


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_folder_is_packed_checked_and_verified(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.pack"
    output = run("pack", root, "--out", file, "--size", 16)
    assert output.startswith("data: 5 categories, 15 sketches, 15 photos\n")
    assert packed(file).read(0).size == (21, 16)
    assert "whole" in run("verify", file)
    counts = [run("data", "check", place, "--split", "seed:1", "--picture", tmp_path / "p.png").splitlines()[1:5] for place in (root, file)]
    assert counts[0] == counts[1]


def test_a_split_is_kept_or_packed_alone(root: Path, tmp_path: Path) -> None:
    run("pack", root, "--out", tmp_path / "split.pack", "--split", "ant,bee")
    assert dataset(str(tmp_path / "split.pack")).split_digest == dataset(str(root), "ant,bee").split_digest
    run("pack", root, "--out", tmp_path / "test.pack", "--split", "ant,bee", "--only", "test")
    alone = packed(tmp_path / "test.pack")
    assert (alone.categories, len(alone)) == (("ant", "bee"), 12)
    with pytest.raises(InputError, match="--only names a split of --split"):
        run("pack", root, "--out", tmp_path / "y.pack", "--only", "test")


def test_photos_of_a_packed_dataset_are_encoded(root: Path, tmp_path: Path) -> None:
    from sbirlib import build

    model = tmp_path / "model.safetensors"
    encoder = {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 8}
    build("mathm", encoder=encoder, transform={"size": 32}).export(model)
    run("pack", root, "--out", tmp_path / "x.pack")
    run("index", model, tmp_path / "x.pack", "--out", tmp_path / "index")
    sketch = next((root / "sketch" / "ant").iterdir())
    line = run("search", sketch, "--index", tmp_path / "index", "--json", "-k", "3")
    hits = json.loads(line)["hits"]
    assert all(hit["path"].startswith(str(tmp_path / "x.pack" / "photo")) for hit in hits)
    picture = tmp_path / "hits.png"
    run("search", sketch, "--index", tmp_path / "index", "--grid", picture)
    assert Image.open(picture).size[0] > 100
