"""Fixtures: photos in a folder, their saved index, and files that nobody may read."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sync.folders import put

from sbirlib import Pipeline, build, open_index, sealed
from sbirlib.data.dataset import Dataset
from sbirlib.search import SearchIndex


@pytest.fixture(scope="session")
def pipeline() -> Pipeline:
    encoder = {"backbone": "resnet10t", "pretrained": False}
    return build("clip", encoder=encoder, transform={"size": 32})


@pytest.fixture
def photos(dataset: Dataset, tmp_path: Path) -> Path:
    """Six photos in folders of classes, an hour old."""
    for i in range(6):
        put(dataset, i, tmp_path / "photos" / f"class{i % 2}" / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def index(pipeline: Pipeline, photos: Path, tmp_path: Path) -> SearchIndex:
    saved = pipeline.index(photos, fields={f"class{i % 2}/{i}.png": {"year": 2000 + i} for i in range(6)}, progress=False)
    saved.save(tmp_path / "index")
    return open_index(tmp_path / "index")


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let no file of a photo be read from now on."""

    def close() -> None:
        digest = sealed.digest
        monkeypatch.setattr(
            sealed, "digest", lambda path, at: pytest.fail(f"{path} was read") if path.suffix == ".png" else digest(path, at)
        )
        monkeypatch.setattr("sbirlib.data.images.open_image", lambda path, **_: pytest.fail(f"{path} was decoded"))

    return close
