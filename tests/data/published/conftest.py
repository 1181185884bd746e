"""Fixture: the folders of a published dataset, with one picture linked under every name."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

Plant = Callable[[Iterable[str]], Path]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Write a tree of pictures, by their paths."""
    pictures = {suffix: tmp_path / f"picture{suffix}" for suffix in (".png", ".jpg")}
    for picture in pictures.values():
        Image.new("L", (2, 2), 255).save(picture)

    def write(paths: Iterable[str]) -> Path:
        for path in paths:
            target = tmp_path / "tree" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(pictures[".png" if path.endswith(".png") else ".jpg"], target)
        return tmp_path / "tree"

    return write
