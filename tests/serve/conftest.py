"""An index of figures in a folder, and a client of the application over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.conftest import figure

from sbirlib import Pipeline, build
from sbirlib.serve import app

SMALL: dict[str, Any] = {"encoder": {"backbone": "resnet10t", "dim": 8, "pretrained": False}, "transform": {"size": 32}}
CROSS: dict[str, Any] = {"strokes": [{"points": [[0.2, 0.2], [0.8, 0.8]]}, {"points": [[0.8, 0.2], [0.2, 0.8]], "width": 0.03}]}


@pytest.fixture(scope="session")
def pipeline() -> Pipeline:
    return build("mathm", **SMALL)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eighteen photos of three classes."""
    for i in range(18):
        place = tmp_path / "photos" / f"class{i % 3}"
        place.mkdir(parents=True, exist_ok=True)
        figure(i % 6, i, False).save(place / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def folder(pipeline: Pipeline, photos: Path, tmp_path: Path) -> Path:
    """A saved index of the photos, with a year of each."""
    fields = {str(path): {"year": 2000 + int(path.stem)} for path in photos.glob("*/*.png")}
    pipeline.index(photos, fields=fields, progress=False).save(tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def serving(folder: Path, tmp_path: Path) -> Callable[..., TestClient]:
    """Maker of a client over the index, with options of the application."""

    def make(**options: Any) -> TestClient:
        return TestClient(app(folder, cache=tmp_path / "cache", **options), raise_server_exceptions=False)

    return make


@pytest.fixture
def client(serving: Callable[..., TestClient]) -> Iterator[TestClient]:
    with serving() as client:
        yield client
