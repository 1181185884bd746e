"""Image files: modes, formats, limits, and files that are damaged or unsupported."""

import importlib.util
import io
import re
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from sbirlib.data.images import FORMATS, check_header, good_images, open_image
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


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "I", "F"])
@pytest.mark.parametrize("compression", [None, "tiff_deflate"])
def test_a_turned_tiff_is_upright(tmp_path: Path, mode: str, compression: str | None) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    if mode.startswith("I;16"):
        levels = np.asarray(gradient("L")).astype(">u2" if mode == "I;16B" else "<u2") << 8
        picture = Image.frombytes(mode, (40, 30), levels.astype(levels.dtype.newbyteorder(">" if mode == "I;16B" else "<")).tobytes())
    else:
        picture = gradient("L").convert(mode) if mode in ("I", "F") else gradient(mode)
    picture.save(tmp_path / "a.tiff", exif=exif, compression=compression)
    expected = (gradient("L") if mode in ("I", "F") or mode.startswith("I;16") else picture).convert("RGB").rotate(270, expand=True)
    error = np.abs(np.asarray(open_image(tmp_path / "a.tiff").convert("RGB"), float) - np.asarray(expected, float))
    assert error.max() <= 1


def png(samples: int, colour: int) -> bytes:
    """A PNG file of 16 bits a sample, 2 x 1: black, and 51200 in every sample."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    line = b"\0" + struct.pack(f">{2 * samples}H", *[0] * samples, *[51200] * samples)
    header = struct.pack(">IIBBBBB", 2, 1, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(line)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("samples", "colour", "modes"), [(1, 0, ("L",)), (3, 2, ("RGB",)), (2, 4, ("LA", "RGBA")), (4, 6, ("RGBA",))])
def test_a_png_of_sixteen_bits_a_sample_keeps_the_upper_eight(tmp_path: Path, samples: int, colour: int, modes: tuple[str, ...]) -> None:
    (tmp_path / "a.png").write_bytes(png(samples, colour))
    opened = open_image(tmp_path / "a.png")
    assert opened.mode in modes
    assert np.unique(np.asarray(opened)[0, 1]).tolist() == [200]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (np.array([[0, 128, 255]], dtype=np.int32), [0, 128, 255]),  # 8 bits
        (np.array([[0, 256, 65535]], dtype=np.int32), [0, 1, 255]),  # 16 bits
        (np.array([[-1000, 0, 1000]], dtype=np.int32), [0, 128, 255]),
        (np.array([[10**6, 10**6 + 1, 10**6 + 2]], dtype=np.int32), [0, 128, 255]),
        (np.array([[7 * 10**6] * 3], dtype=np.int32), [0, 0, 0]),
        (np.array([[0, 0.5, 1]], dtype=np.float32), [0, 128, 255]),
        (np.array([[0, 12.4, 255]], dtype=np.float32), [0, 12, 255]),
        (np.array([[2.0, 502.0, 1002.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[np.nan, 1, np.inf]], dtype=np.float32), [255, 255, 255]),
        (np.array([[np.nan, 0, 1]], dtype=np.float32), [0, 0, 255]),
        (np.array([[-3e38, 0, 3e38]], dtype=np.float32), [0, 128, 255]),
    ],
)
def test_levels_without_an_agreed_range_become_eight_bits(tmp_path: Path, levels: np.ndarray, expected: list[int]) -> None:
    Image.fromarray(levels).save(tmp_path / "depth.tiff")
    opened = open_image(tmp_path / "depth.tiff")
    assert (opened.mode, np.asarray(opened)[0].tolist()) == ("L", expected)


def test_an_image_without_a_finite_level_is_named_and_not_called_damaged(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), np.nan, dtype=np.float32)).save(tmp_path / "depth.tiff")
    with pytest.raises(InputError, match=r"depth\.tiff: no level of the image is a finite number"):
        open_image(tmp_path / "depth.tiff")


def test_heif_is_read_by_its_extra_or_its_files_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sbirlib.data import images

    if "HEIF" in FORMATS:
        other = gradient().rotate(180)
        gradient().save(tmp_path / "a.HEIC", format="HEIF", save_all=True, append_images=[other])
        opened = open_image(tmp_path / "a.HEIC")
        assert opened.mode == "RGB"
        assert np.abs(np.asarray(opened, float) - np.asarray(gradient(), float)).mean() < 12
        (tmp_path / "b.heic").write_bytes((tmp_path / "a.HEIC").read_bytes()[:300])
        with pytest.raises(InputError, match=r"b\.heic"):
            open_image(tmp_path / "b.heic")
        with pytest.raises(InputError, match="over the limit"):
            open_image(tmp_path / "a.HEIC", max_pixels=100)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    bare = importlib.util.module_from_spec(importlib.util.find_spec(images.__name__))  # type: ignore[arg-type]
    bare.__spec__.loader.exec_module(bare)  # type: ignore[union-attr]
    assert "HEIF" not in bare.FORMATS
    assert "pip install 'sbirlib[heif]'" in bare.UNSUPPORTED[".heic"]


def test_a_photo_of_several_pictures_in_one_jpeg_gives_the_first(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.MPO", save_all=True, append_images=[Image.new("RGB", (40, 30))])
    assert np.abs(np.asarray(open_image(tmp_path / "a.MPO"), float) - np.asarray(gradient(), float)).mean() < 12


def test_a_format_that_this_pillow_lacks_is_unsupported_not_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    from sbirlib.data import images

    monkeypatch.setattr(features, "get_supported", lambda: ["webp"])
    bare = importlib.util.module_from_spec(importlib.util.find_spec(images.__name__))  # type: ignore[arg-type]
    bare.__spec__.loader.exec_module(bare)  # type: ignore[union-attr]
    assert {"AVIF", "JPEG2000"}.isdisjoint(bare.FORMATS)
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
