"""Reading pictures that nobody vouches for: limits first, every failure named."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sbirlib.errors import InputError
from sbirlib.progress import track

MAX_PIXELS = 64_000_000
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")  # no other decoder of Pillow is ever handed a file
REMEDY = "replace or remove it, or pass skip_bad=True to leave such files out"


def open_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in a file, upright (EXIF), decoded, in mode L, LA, RGB or RGBA; an animation gives its first frame.

    The pixel limit is checked from the header, before anything is decoded. An `InputError` names a file that is missing, empty, over
    the limit, truncated or no image.

    >>> open_image("sketch/cat/1.png").mode  # doctest: +SKIP
    'L'
    """
    with _header(path, max_pixels) as image:
        try:
            image.load()
            return plain(ImageOps.exif_transpose(image))
        except Exception as error:  # a decoder fed a broken file may raise anything
            raise InputError(f"{path} is damaged or cut short ({error}): {REMEDY}") from error


def check_header(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> None:
    """Raise the `InputError` of `open_image` as far as the header tells, without decoding."""
    _header(path, max_pixels).close()


def plain(image: Image.Image) -> Image.Image:
    """The picture in mode L, LA, RGB or RGBA: 16 bits become 8, palettes and CMYK become RGB, transparency becomes alpha."""
    if image.mode in ("L", "LA", "RGB", "RGBA") and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise InputError(f"an image of mode {image.mode} has no agreed range: convert it to 8 bits first, as mode L or RGB")
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def good_images(paths: list[Path], *, skip_bad: bool, max_pixels: int = MAX_PIXELS) -> list[int]:
    """The positions of the readable files. The first bad one is an `InputError`; with `skip_bad` every file is decoded in full, and the
    bad ones are left out and listed in one warning."""

    def problem(path: Path) -> str | None:
        try:
            (open_image if skip_bad else check_header)(path, max_pixels=max_pixels)
        except InputError as error:
            if not skip_bad:
                raise
            return str(error).removesuffix(f": {REMEDY}")
        return None

    with ThreadPoolExecutor(2) as pool:  # Pillow decodes outside the interpreter's lock
        problems = list(track(pool.map(problem, paths), total=len(paths), label="checking images"))
    bad = [p for p in problems if p is not None]
    if bad:
        warnings.warn(f"skipped {len(bad)} of {len(paths)} images:\n  " + "\n  ".join(bad), stacklevel=3)
    return [i for i, p in enumerate(problems) if p is None]


def _header(path: str | Path, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(path, formats=FORMATS)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: check the path") from error
    except UnidentifiedImageError as error:
        empty = Path(path).stat().st_size == 0
        raise InputError(f"{path} {'is empty (0 bytes)' if empty else 'is no image in ' + ', '.join(FORMATS)}: {REMEDY}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path} is over Pillow's own pixel limit ({error}): {REMEDY}") from error
    except Exception as error:
        raise InputError(f"{path} cannot be read ({error}): {REMEDY}") from error
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise InputError(f"{path} has {width} x {height} pixels, over the limit max_pixels={max_pixels}: {REMEDY}")
    return image
