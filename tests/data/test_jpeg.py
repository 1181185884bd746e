"""JPEG decoding: equal pixels with and without the fast decoder, on whole, odd and damaged files, and DCT scaling."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sbirlib.data import jpeg
from sbirlib.data.folder import folder
from sbirlib.data.images import open_image
from sbirlib.errors import InputError

fast = pytest.mark.skipif(not jpeg.fast_decoder(), reason="simplejpeg is not installed, or decodes otherwise than Pillow")


def picture(width: int = 61, height: int = 45, mode: str = "RGB") -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def outcome(path: Path) -> Any:
    """Mode, size and pixels of a file, or the words of its error."""
    try:
        image = open_image(path)
    except InputError as error:
        return str(error)
    return image.mode, image.size, image.tobytes()


@fast
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}, {"quality": 30}])
def test_both_decoders_give_equal_pixels(mode: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jpg"
    for orientation in (1, 6):
        exif = Image.Exif()
        exif[jpeg.ORIENTATION] = orientation
        picture(mode=mode).save(path, exif=exif, **options)
        with_fast = outcome(path)
        with monkeypatch.context() as patch:
            patch.setattr(jpeg, "fast_decoder", lambda: False)
            assert outcome(path) == with_fast
        assert with_fast[1] == ((61, 45) if orientation == 1 else (45, 61))


@fast
def test_the_fast_decoder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture().save(tmp_path / "x.jpg")
    monkeypatch.setattr(Image.Image, "load", None)
    assert open_image(tmp_path / "x.jpg").size == (61, 45)


@fast
def test_both_decoders_judge_damaged_files_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    picture().save(file, "JPEG")
    random = np.random.default_rng(1)
    for i in range(300):
        content = bytearray(file.getvalue())
        if i % 3:
            for place in random.integers(0, len(content), 1 + i % 4):
                content[place] = random.integers(256)
        else:
            del content[int(random.integers(1, len(content))) :]
        path = tmp_path / "x.jpg"
        path.write_bytes(content)
        with_fast = outcome(path)
        with monkeypatch.context() as patch:
            patch.setattr(jpeg, "fast_decoder", lambda: False)
            assert outcome(path) == with_fast, f"case {i}"


@pytest.mark.parametrize(("draft", "size"), [(0, (403, 300)), (151, (403, 300)), (150, (202, 150)), (76, (202, 150)), (75, (101, 75))])
def test_dct_scaling_keeps_the_pixels_that_are_needed(draft: int, size: tuple[int, int], tmp_path: Path) -> None:
    picture(403, 300).save(tmp_path / "x.jpg")
    image = open_image(tmp_path / "x.jpg", draft=draft)
    assert image.size == size
    small = np.asarray(open_image(tmp_path / "x.jpg").resize(size, Image.Resampling.BOX), dtype=int)
    assert np.abs(np.asarray(image, dtype=int) - small).mean() < 2


def test_a_folder_scales_while_it_decodes_if_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "photo/a").mkdir(parents=True)
    picture(403, 300).save(tmp_path / "photo/a/x.jpg")
    assert folder(tmp_path).read(0).size == (403, 300)
    assert folder(tmp_path, draft=150).read(0).size == (202, 150)


def test_without_simplejpeg_pillow_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture().save(tmp_path / "x.jpg")
    expected = open_image(tmp_path / "x.jpg").tobytes()
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    jpeg.fast_decoder.cache_clear()
    try:
        assert not jpeg.fast_decoder()
        assert open_image(tmp_path / "x.jpg").tobytes() == expected
    finally:
        jpeg.fast_decoder.cache_clear()
