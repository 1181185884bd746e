"""The words of `preparation.json`, and the program of docs/exchange.md that does what they say, against the transform."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tests.exchange.page import PREPARE, python_blocks

from sbirlib.data.images import open_image
from sbirlib.data.transforms import Sbir
from sbirlib.exchange.preparation import steps
from sbirlib.interfaces import PHOTO, SKETCH

MODES = ("RGB", "L", "RGBA", "LA", "P", "CMYK")


@pytest.fixture
def prepare() -> Any:
    namespace: dict[str, Any] = {}
    exec(python_blocks()[PREPARE], namespace)
    return namespace["prepare"]


def picture(kind: str, side: int) -> Image.Image:
    """A drawing or a photo in one of several forms, wider than high."""
    random = np.random.default_rng(side)
    noise = Image.fromarray(random.integers(0, 256, (side, side + 31, 3), np.uint8))
    sheet = Image.new("RGB", noise.size, (236, 230, 220))
    ImageDraw.Draw(sheet).line([(9, 14), (40, 33), (22, side - 3)], (30, 10, 60), 3)
    if kind == "blank":
        return Image.new("RGB", noise.size, (250, 250, 244))
    if kind == "light":
        return Image.eval(sheet, lambda level: 255 - level)
    if kind == "ink in alpha":
        alpha = Image.eval(sheet.convert("L"), lambda level: 255 - level)
        return Image.merge("RGBA", [*Image.new("RGB", noise.size, (3, 9, 5)).split(), alpha])
    if kind == "half transparent":
        return Image.merge("RGBA", [*noise.split(), Image.linear_gradient("L").resize(noise.size)])
    return (sheet if side % 2 else noise).convert(kind)


KINDS = (*MODES, "blank", "light", "ink in alpha", "half transparent")
FITS: list[dict[str, Any]] = [
    {"sketch_fit": f, "sketch_margin": m} for f, m in (("centre", 0.05), ("centre", 0.2), ("pad", 0.05), ("squash", 0.05))
]
OPTIONS: list[dict[str, Any]] = [
    *({"size": 40, "polarity": polarity, **fit} for polarity, fit in itertools.product(("auto", "dark", "light"), FITS)),
    *({"size": size, "photo_fit": fit} for size, fit in itertools.product((24, 41, 150), ("squash", "pad", "crop"))),
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_prepares_images_as_the_transform_does(kind: str, prepare: Any, tmp_path: Path) -> None:
    for side in (57, 90):
        path = tmp_path / ("image.tif" if kind == "CMYK" else "image.png")
        picture(kind, side).save(path)
        for options in OPTIONS:
            transform = Sbir(**options)
            table = {"name": "sbir", **vars(transform)}
            for name, modality in (("query", SKETCH), ("gallery", PHOTO)):
                expected = transform.prepare(open_image(path), modality).numpy()
                np.testing.assert_allclose(
                    prepare(path, name, table) * 255, expected, rtol=0, atol=2.01, err_msg=f"{kind} {side} {name} {options}"
                )


def test_turned_photos_are_upright(prepare: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    picture("RGB", 90).save(tmp_path / "turned.jpg", exif=exif)
    transform = Sbir(size=32, photo_fit="pad")
    expected = transform.prepare(open_image(tmp_path / "turned.jpg"), PHOTO).numpy().astype(np.float32) / 255
    np.testing.assert_allclose(prepare(tmp_path / "turned.jpg", "gallery", vars(transform)), expected, atol=1 / 255)


def test_the_words_have_the_values() -> None:
    transform = Sbir(size=100, sketch_margin=0.1, polarity="light", photo_fit="crop", photo_lines="canny")
    sketch, photo = (" ".join(steps(transform, modality)) for modality in (SKETCH, PHOTO))
    assert "longer side has 80 pixels" in sketch
    assert "the ink is light (dark where" in sketch
    assert "shorter side has 100 pixels" in photo
    assert photo.index("edge map") < photo.index("ridges above 0.1") < photo.index("cut out the middle 100 x 100")
    assert "edge map" not in " ".join(steps(Sbir(), PHOTO))
    assert "to 224 x 224 pixels, whatever the aspect" in " ".join(steps(Sbir(), PHOTO))


def test_a_transform_of_another_kind_is_named() -> None:
    class Mine:
        size = 8

        def prepare(self, image: Any, modality: int) -> Any: ...

        def augment(self, image: Any, modality: int) -> Any: ...

    assert "Mine.prepare" in steps(Mine(), SKETCH)[1]
