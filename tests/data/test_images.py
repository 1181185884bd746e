"""Image files: modes, formats, limits, and files that are damaged or unsupported."""

import importlib.util
import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from sbirlib.data.images import FORMATS, check_header, good_images, open_image, plain
from sbirlib.errors import InputError


def gradient(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return Image.fromarray(np.stack([x * 5, y * 8, (x + y) * 3], 2).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize(
    ("saved", "suffix", "mode"),
    [
        ("L", "png", "L"),
        ("LA", "png", "LA"),
        ("RGB", "png", "RGB"),
        ("RGBA", "png", "RGBA"),
        ("P", "png", "RGB"),
        ("1", "png", "L"),
        ("CMYK", "jpg", "RGB"),
        ("RGB", "jpeg", "RGB"),
        ("RGB", "webp", "RGB"),
        ("RGB", "bmp", "RGB"),
        ("P", "gif", "RGB"),
        ("RGB", "tiff", "RGB"),
        ("1", "tif", "L"),
        ("CMYK", "tiff", "RGB"),
        ("I;16", "tiff", "L"),
        ("RGB", "ppm", "RGB"),
        pytest.param("RGB", "avif", "RGB", marks=pytest.mark.skipif("AVIF" not in FORMATS, reason="Pillow without AVIF")),
        pytest.param("RGB", "jp2", "RGB", marks=pytest.mark.skipif("JPEG2000" not in FORMATS, reason="Pillow without JPEG 2000")),
    ],
)
def test_every_mode_and_format_opens_as_one_of_four_modes(tmp_path: Path, saved: str, suffix: str, mode: str) -> None:
    path = tmp_path / f"a.{suffix}"
    picture = Image.fromarray(np.asarray(gradient("L")).astype(np.uint16) << 8) if saved == "I;16" else gradient(saved)
    picture.save(path)
    opened = open_image(path)
    assert (opened.mode, opened.size) == (mode, (40, 30))
    picture = gradient("L") if saved == "I;16" else picture
    error = np.abs(np.asarray(opened.convert("RGB"), float) - np.asarray(picture.convert("RGB"), float))
    assert error.mean() < 12


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    levels = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    opened = open_image(tmp_path / "a.png")
    assert opened.mode == "L"
    assert np.asarray(opened).ravel().tolist() == list(range(256))


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_becomes_alpha(tmp_path: Path, mode: str) -> None:
    picture = Image.new(mode, (4, 4), 0)
    picture.putpixel((1, 1), 1 if mode != "RGB" else (9, 9, 9))
    picture.save(tmp_path / "a.png", transparency=0 if mode != "RGB" else (0, 0, 0))
    opened = open_image(tmp_path / "a.png")
    assert opened.mode == "RGBA"
    assert opened.getchannel("A").getpixel((0, 0)) == 0
    assert opened.getchannel("A").getpixel((1, 1)) == 255


def test_a_turned_photo_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    gradient().save(tmp_path / "a.jpg", exif=exif)
    assert open_image(tmp_path / "a.jpg").size == (30, 40)


def test_a_float_image_is_refused() -> None:
    with pytest.raises(InputError, match="mode F has no agreed range: convert it to 8 bits"):
        plain(Image.new("F", (2, 2)))


def test_a_float_image_in_a_file_is_named_and_not_called_damaged(tmp_path: Path) -> None:
    Image.new("F", (2, 2)).save(tmp_path / "depth.tiff")
    with pytest.raises(InputError, match=r"depth\.tiff: an image of mode F has no agreed range"):
        open_image(tmp_path / "depth.tiff")


def test_a_format_that_this_pillow_lacks_is_unsupported_not_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    from sbirlib.data import images

    monkeypatch.setattr(features, "get_supported", lambda: ["webp"])
    bare = importlib.util.module_from_spec(importlib.util.find_spec(images.__name__))  # type: ignore[arg-type]
    bare.__spec__.loader.exec_module(bare)  # type: ignore[union-attr]
    assert "AVIF" not in bare.FORMATS
    assert ".webp" in bare.SUFFIXES
    assert bare.UNSUPPORTED[".avif"] == "Pillow was installed without AVIF"


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("P", (5, 5), c) for c in (0, 1)]
    for frame in frames:
        frame.putpalette([255, 0, 0, 0, 255, 0])
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert open_image(tmp_path / "a.gif").convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def broken(folder: Path) -> dict[str, Path]:
    whole = io.BytesIO()
    gradient(size=(200, 200)).save(whole, "PNG")
    contents = {
        "empty.png": b"",
        "noise.png": b"these are words, no picture",
        "short.png": whole.getvalue()[: len(whole.getvalue()) // 2],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def test_bad_files_are_named_with_what_to_do(tmp_path: Path) -> None:
    bad = broken(tmp_path)
    for name, words in {"empty.png": "is empty", "noise.png": "is no image in .*JPEG", "short.png": "is damaged or cut short"}.items():
        with pytest.raises(InputError, match=rf"{re.escape(str(bad[name]))} {words}.*skip_bad=True"):
            open_image(bad[name])


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png does not exist"):
        open_image(tmp_path / "none.png")
    with pytest.raises(InputError, match="is no regular file"):
        open_image(tmp_path)


def test_formats_that_were_not_asked_for_are_not_decoded(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png", format="PCX")
    with pytest.raises(InputError, match="is no image in"):
        open_image(tmp_path / "a.png")


def test_the_pixel_limit_holds_before_anything_is_decoded(tmp_path: Path) -> None:
    whole = io.BytesIO()
    gradient(size=(200, 200)).save(whole, "PNG")
    path = tmp_path / "big.png"
    path.write_bytes(whole.getvalue()[:60])  # the header alone: decoding it would fail in another way
    with pytest.raises(
        InputError, match=r"big\.png has 200 x 200 pixels, over the limit max_pixels=39999 \(--max-pixels\): .*\(--skip-bad\)"
    ):
        open_image(path, max_pixels=39_999)
    with pytest.raises(InputError, match="over the limit"):
        check_header(path, max_pixels=39_999)
    check_header(path, max_pixels=40_000)


def test_pillows_own_limit_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gradient(size=(200, 200)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    with pytest.raises(InputError, match=r"a\.png is over Pillow's own pixel limit"):
        open_image(tmp_path / "a.png")


def test_good_images_names_the_first_bad_one_or_lists_them_all(tmp_path: Path) -> None:
    gradient().save(tmp_path / "good.png")
    paths = [tmp_path / "good.png", *broken(tmp_path).values(), tmp_path / "good.png"]
    with pytest.raises(InputError, match=r"empty\.png is empty"):
        good_images(paths, skip_bad=False)
    with pytest.warns(UserWarning, match="skipped 3 of 5 images") as caught:
        assert good_images(paths, skip_bad=True) == [0, 4]
    message = str(caught[0].message)
    assert all(f"{p} " in message for p in paths[1:4])
    assert "skip_bad" not in message


def test_nothing_is_said_where_nothing_is_skipped(tmp_path: Path) -> None:
    gradient().save(tmp_path / "good.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert good_images([tmp_path / "good.png"], skip_bad=True) == [0]
