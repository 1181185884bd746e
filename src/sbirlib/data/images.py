"""Decoding of untrusted image files: size limits before decoding, and an error that names the file and the fault."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from PIL import Image, ImageOps, UnidentifiedImageError, features
from PIL.TiffImagePlugin import TiffImageFile

from sbirlib.data import jpeg
from sbirlib.data.levels import eight_bits
from sbirlib.errors import InputError
from sbirlib.progress import track


def _heif() -> bool:
    """Whether Pillow opens HEIF, by pillow-heif (the extra `heif`), which is told to it here."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


MAX_PIXELS = 64_000_000
MaxPixels = Annotated[int, Ge(1)]
OPTIONAL = {"AVIF": "avif", "HEIF": "heif", "JPEG2000": "jpg_2000", "WEBP": "webp"}  # formats that may be missing, by Pillow's feature
READABLE = {
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PNG": (".png", ".apng"),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
UNREADABLE = {
    "a camera's raw format": (".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),
    "JPEG XL": (".jxl",),
    "an image editor's format": (".psd", ".xcf"),
    "a format of icons or textures": (".dds", ".icns", ".ico", ".tga"),
    "a rare or outdated format": (".bw", ".dcx", ".dib", ".fits", ".msp", ".pcd", ".pcx", ".pfm", ".qoi", ".ras", ".sgi", ".xbm", ".xpm"),
    "a vector format": (".emf", ".eps", ".svg", ".svgz", ".wmf"),
}
_AVAILABLE = [*features.get_supported(), *(["heif"] if _heif() else [])]
FORMATS = tuple(name for name in READABLE if name not in OPTIONAL or OPTIONAL[name] in _AVAILABLE)  # the only decoders that see a file
SUFFIXES = frozenset(suffix for name in FORMATS for suffix in READABLE[name])
MISSING = {name: f"Pillow was installed without {name}" for name in OPTIONAL} | {
    "HEIF": "HEIF needs the extra heif: pip install 'sbirlib[heif]'"
}
UNSUPPORTED = {suffix: f"{name} is not supported" for name, suffixes in UNREADABLE.items() for suffix in suffixes} | {
    suffix: MISSING[name] for name in READABLE if name not in FORMATS for suffix in READABLE[name]
}
REMEDY = "replace or remove it, or pass skip_bad=True (--skip-bad) to leave such files out"


class PassedOver(UserWarning):
    """Warning about files whose suffix is that of an image but that cannot be read; `files` lists each path with the reason."""

    def __init__(self, files: Sequence[tuple[Path, str]]) -> None:
        self.files = tuple(files)
        by_reason: dict[str, list[Path]] = {}
        for path, reason in self.files:
            by_reason.setdefault(reason, []).append(path)
        examples = [f"{paths[0]} ({reason}{f'; {len(paths)} of them' * (len(paths) > 1)})" for reason, paths in by_reason.items()]
        count = f"{len(files)} image file{'s' * (len(files) > 1)}"
        super().__init__(f"passed over {count} of an unsupported format, such as {', '.join(examples)}: convert them to PNG or JPEG")


class Skipped(UserWarning):
    """Warning about `count` files, of which those that cannot be read were left out; `reasons` has a line for each, which names it."""

    def __init__(self, reasons: Sequence[str], count: int) -> None:
        self.reasons = tuple(reason.removesuffix(f": {REMEDY}") for reason in reasons)
        super().__init__(f"skipped {len(reasons)} of {count} images:\n  " + "\n  ".join(self.reasons))


def open_image(path: str | Path, *, max_pixels: MaxPixels = MAX_PIXELS, draft: int = 0) -> Image.Image:
    """Decode an image file, upright (EXIF), in mode L, LA, RGB or RGBA; of an animation or a multi-page file, the first frame.

    The pixel limit is checked from the header, before decoding. An `InputError` names a file that is missing, empty, over the limit,
    truncated or no image. With `draft` a JPEG file of twice its pixels or more is decoded at 1/2, 1/4 or 1/8, with at least `draft` pixels
    on the shorter side (DCT scaling): faster, with slightly other pixels.

    >>> open_image("sketch.png").mode
    'RGB'
    """
    with _header(path, max_pixels) as image:
        return upright(image, str(path), draft=draft)


def upright(image: Image.Image, where: str, *, draft: int = 0) -> Image.Image:
    """Decode an open image as `open_image` does; an `InputError` begins with `where`."""
    try:
        if draft:
            jpeg.draft(image, draft)
        elif (pixels := jpeg.fast_pixels(image)) is not None:
            return pixels
        if isinstance(image, TiffImageFile):
            image.filename = ""  # else Pillow maps the file, and a photo that EXIF turns with its sides exchanged
        image.load()
        return plain(ImageOps.exif_transpose(image))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except Exception as error:  # a decoder may raise anything on a broken file
        raise InputError(f"{where} is damaged or cut short ({error}): {REMEDY}") from error


@dataclass(frozen=True)
class Files:
    """Reader of images by position; each is a path, relative to `root` if there is one, or a PIL image that is returned as it is.

    `draft`, if it is not 0, lets JPEG files be decoded at a half, a quarter or an eighth, see `open_image`.
    """

    threads: ClassVar[int] = 4

    pictures: Sequence[str | Image.Image]
    max_pixels: int
    root: str = ""
    draft: int = 0

    def __call__(self, position: int) -> Image.Image:
        picture = self.pictures[position]
        if not isinstance(picture, str):
            return picture
        return open_image(os.path.join(self.root, picture), max_pixels=self.max_pixels, draft=self.draft)


def check_header(path: str | Path, *, max_pixels: MaxPixels = MAX_PIXELS) -> None:
    """Raise the `InputError` of `open_image` as far as the header shows it, without decoding."""
    _header(path, max_pixels).close()


def plain(image: Image.Image) -> Image.Image:
    """Convert an image to mode L, LA, RGB or RGBA: levels of more bits become 8, palettes and CMYK become RGB, transparency becomes alpha."""
    if image.mode in ("L", "LA", "RGB", "RGBA") and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return Image.fromarray(eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def good_images(paths: list[Path], *, skip_bad: bool, max_pixels: MaxPixels = MAX_PIXELS) -> list[int]:
    """Positions of the readable files in `paths`.

    The first bad file raises an `InputError`. With `skip_bad` every file is decoded, and one warning, `Skipped`, lists the bad ones.
    """

    def problem(path: Path) -> str | None:
        try:
            (open_image if skip_bad else check_header)(path, max_pixels=max_pixels)
        except InputError as error:
            if not skip_bad:
                raise
            return str(error)
        return None

    with ThreadPoolExecutor(2) as pool:  # Pillow decodes outside the GIL
        problems = list(track(pool.map(problem, paths), total=len(paths), label="checking images"))
    bad = [p for p in problems if p is not None]
    if bad:
        warnings.warn(Skipped(bad, len(paths)), stacklevel=3)
    return [i for i, p in enumerate(problems) if p is None]


def image_files(paths: Iterable[Path], unsupported: list[Path]) -> list[Path]:
    """Visible files with the suffix of a readable image, in any case; those of an unsupported format are appended to `unsupported`."""
    visible = [p for p in paths if not p.name.startswith(".")]
    unsupported += [p for p in visible if p.suffix.lower() in UNSUPPORTED and p.is_file()]
    return [p for p in visible if p.suffix.lower() in SUFFIXES and p.is_file()]


def warn_unsupported(files: Sequence[Path]) -> None:
    """Issue one `PassedOver` warning for files that `image_files` found to be unsupported, if there are any."""
    if files:
        warnings.warn(PassedOver([(path, UNSUPPORTED[path.suffix.lower()]) for path in sorted(files)]), stacklevel=3)


def _header(path: str | Path, max_pixels: int) -> Image.Image:
    try:
        if not stat.S_ISREG(mode := os.stat(path).st_mode):  # to open a pipe would wait for its writer
            kind = "a folder that cannot be listed, or stands for a file" if stat.S_ISDIR(mode) else "a folder, a pipe or a device"
            raise InputError(f"{path} is no regular file, but {kind}: {REMEDY}")
        image = Image.open(path, formats=FORMATS)
    except InputError:
        raise
    except FileNotFoundError as error:
        if os.path.islink(path):
            raise InputError(f"{path} is a link that leads nowhere: {REMEDY}") from error
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
        raise InputError(f"{path} has {width} x {height} pixels, over the limit max_pixels={max_pixels} (--max-pixels): {REMEDY}")
    return image
