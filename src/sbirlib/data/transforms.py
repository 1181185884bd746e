"""Image preparation for the network (square, polarity, margins) and augmentation in training."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from sbirlib.edges import DETECTORS, drawn
from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import SKETCH

INK = 16  # least difference between ink and paper, in grey levels
WHITE = 255


@dataclass(frozen=True, kw_only=True)
class Sbir:
    """Preparation of sketches as dark ink on white, scaled and centred, and of photos; both become uint8 [3, S, S].

    A drawing in the alpha channel is read from there, light ink on dark is inverted (`polarity`), off-white paper becomes white, and a
    blank sketch is a white image.

    sketch_fit: "centre" scales the bounding box of the ink uniformly to the square less `sketch_margin` a side; "pad" keeps the whole
        sheet; "squash" ignores its aspect ratio.
    photo_fit: "squash", "pad" (white) or "crop" (the centre).
    photo_lines: "sobel" or "canny" replaces a photo by its edge map, dark on white, before padding and rotation, whose borders would be
        edges too.

    `augment` crops a random square of at least `crop` of the side, flips, and rotates by up to `rotation` degrees.

    >>> Sbir(size=96).prepare(Image.new("L", (400, 300), 255), SKETCH).shape
    torch.Size([3, 96, 96])
    """

    size: int = 224
    flip: bool = True
    crop: float = 0.8
    rotation: float = 0.0
    sketch_fit: Literal["centre", "pad", "squash"] = "centre"
    sketch_margin: float = 0.05
    polarity: Literal["auto", "dark", "light"] = "auto"
    photo_fit: Literal["squash", "pad", "crop"] = "squash"
    photo_lines: Literal["none", "sobel", "canny"] = "none"

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for option in (f.name for f in fields(self)):
            choices, value = get_args(types[option]), getattr(self, option)
            if choices and value not in choices:
                raise InputError(f"transform: unknown {option} {value!r}{nearest(str(value), choices)}")
        if self.size < 8:
            raise InputError(f"transform: size must be at least 8 pixels, got {self.size}")
        if not 0 < self.crop <= 1:
            raise InputError(f"transform: crop is a share of the side in (0, 1], got {self.crop}")
        if not 0 <= self.sketch_margin < 0.5:
            raise InputError(f"transform: sketch_margin is a share of the side in [0, 0.5), got {self.sketch_margin}")
        if not 0 <= self.rotation <= 180:
            raise InputError(f"transform: rotation is in degrees from 0 to 180, got {self.rotation}")

    def prepare(self, image: Image.Image, modality: int) -> Tensor:
        """Convert a PIL image to uint8 [3, S, S], deterministically."""
        if modality != SKETCH:
            photo: Tensor = tv.pil_to_tensor(self._fit(on_white(image).convert("RGB"), self.photo_fit, lines=self.photo_lines))
            return photo
        sheet = drawing(image, self.polarity)
        if self.sketch_fit != "centre":
            sheet = self._fit(sheet, self.sketch_fit)
        elif (box := sheet.point([WHITE * (v < WHITE - INK) for v in range(256)]).getbbox()) is None:
            sheet = Image.new("L", (self.size, self.size), WHITE)
        else:
            sheet = self._fit(sheet.crop(box), "pad", margin=self.sketch_margin)
        grey: Tensor = tv.pil_to_tensor(sheet)
        return grey.expand(3, -1, -1).contiguous()

    def augment(self, image: Tensor, modality: int) -> Tensor:
        """Crop, flip and rotate a prepared image, uint8 [3, S, S], at random by torch's global generator; alike for both modalities."""
        scale, top, left, mirror, turn = torch.rand(5).tolist()
        side = round(self.size * (1 - scale * (1 - self.crop)))
        if modality == SKETCH:  # a sketch is grey, so one channel is enough
            image = image[:1]
        if self.rotation:
            ink = tv.rotate(WHITE - image, (2 * turn - 1) * self.rotation, tv.InterpolationMode.BILINEAR)  # its `fill` leaves a grey frame
            image = WHITE - ink
        if side < self.size:
            y, x = (round(share * (self.size - side)) for share in (top, left))
            window = image[None, :, y : y + side, x : x + side]
            image = torch.nn.functional.interpolate(window, size=(self.size, self.size), mode="bilinear")[0]
        return (image.flip(-1) if self.flip and mirror < 0.5 else image).expand(3, -1, -1)

    def _fit(self, image: Image.Image, how: str, *, margin: float = 0.0, lines: str = "none") -> Image.Image:
        width, height = image.size
        if how == "squash":
            height = width = self.size
        else:
            room = self.size - 2 * round(self.size * margin)
            scale = room / (max if how == "pad" else min)(height, width)
            height, width = max(1, round(height * scale)), max(1, round(width * scale))
        image = tv.resize(image, [height, width])
        if lines != "none":
            image = edge_map(image, lines)
        if how == "crop":
            image = tv.center_crop(image, [self.size, self.size])
        elif how == "pad":
            top, left = (self.size - height) // 2, (self.size - width) // 2
            image = tv.pad(image, [left, top, self.size - width - left, self.size - height - top], fill=WHITE)
        return image


def edge_map(image: Image.Image, detector: str) -> Image.Image:
    """The edge map of a photo, dark on white, by a detector of `sbirlib.edges` (Zhang et al. 2019, section IV.E)."""
    edges = DETECTORS[detector](tv.pil_to_tensor(image)[None] / 255)
    lines: Image.Image = tv.to_pil_image(drawn(edges)[0])
    return lines


def on_white(image: Image.Image) -> Image.Image:
    """The image without transparency, composited on white."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def drawing(image: Image.Image, polarity: str = "auto") -> Image.Image:
    """The sketch in mode L, dark ink on white. Of the pixels below and above the middle grey, the fewer are the ink."""
    grey = alpha_ink(image)
    if grey is not None:
        polarity = "dark"
    else:
        grey = on_white(image).convert("L")
    histogram = np.array(grey.histogram())
    levels = np.flatnonzero(histogram)
    darkest, brightest = int(levels[0]), int(levels[-1])
    if brightest - darkest < INK:
        return Image.new("L", grey.size, WHITE)
    middle = (darkest + brightest) // 2 + 1
    light = polarity == "light" or (polarity == "auto" and histogram[:middle].sum() > histogram[middle:].sum())
    if light:
        histogram, middle = histogram[::-1], 256 - middle
    paper = middle + int(histogram[middle:].argmax())  # the commonest level on the bright side becomes white
    scale = np.arange(256)[:: -1 if light else 1] * (WHITE / paper)
    return grey.point(scale.clip(0, WHITE).round().astype(int).tolist())


def alpha_ink(image: Image.Image) -> Image.Image | None:
    """The drawing in an alpha channel, dark on white, if all visible pixels have one colour; else None."""
    if not image.has_transparency_data:
        return None
    colour, alpha = (np.asarray(image.convert("RGBA"))[..., channels] for channels in (slice(0, 3), 3))
    visible = colour[alpha > 0]
    if alpha.min() == alpha.max() or np.ptp(visible, axis=0).max() > INK:
        return None
    return Image.fromarray(WHITE - alpha)
