"""Transform of any image to the network's square input, and its augmentation in training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar, cast

import numpy as np
import torch
from annotated_types import Interval, Len
from PIL import Image
from torch import Tensor

from sbirlib.edges import DETECTORS, as_drawing
from sbirlib.errors import InputError
from sbirlib.interfaces import SKETCH, Component
from sbirlib.vision import functional as tv

INK = 16  # grey levels that separate ink from paper
WHITE = 255

Value = TypeVar("Value")
OfModality = Annotated[Mapping[Literal["sketch", "photo"], Value], Len(2, 2)]  # an option's value for each modality
Degrees = Annotated[float, Interval(ge=0, le=180)]
Displacement = Annotated[float, Interval(ge=0, le=0.5)]
Factors = Annotated[Sequence[Annotated[float, Interval(ge=0.1, le=10)]], Len(2, 2)]


@dataclass(frozen=True, kw_only=True)
class Sbir(Component):
    """Sketches become dark ink on white, scaled and centred; photos fill the square; both are uint8 [3, S, S].

    A sketch in the alpha channel is read from there, light ink on dark is inverted, off-white paper becomes white, and a blank sketch is a white
    image. `sketch_fit` "centre" scales the ink's bounding box uniformly into the square less a margin; "pad" keeps the whole sheet, "squash"
    ignores its aspect. `photo_fit` is "squash", "pad" (white) or "crop" (the middle). A photo becomes its edge map before it is padded or rotated,
    whose borders would be edges too.

    Training changes an image at random: it is rotated, scaled and shifted on white, a sketch no farther than its ink has room, then cropped,
    then flipped. `flip`, `rotation`, `scale` and
    `shift` are one value for both modalities, or a table with one for "sketch" and one for "photo". Raises InputError for a `scale` whose
    first factor is the larger.

    Args:
        size: side S of the square, in pixels
        flip: mirror half of the images in training
        crop: smallest side of the random square that training keeps, as a share of the whole; 1 keeps all
        rotation: largest rotation in training, in degrees
        scale: smallest and largest factor of scaling about the centre in training
        shift: largest displacement along each axis in training, as a share of the side
        paired: change a sketch and the photos of its instance alike
        sketch_fit: how a sketch fills the square: "centre", "pad" or "squash"
        sketch_margin: blank margin on each side of a centred sketch, as a share of the side
        polarity: ink of sketches: "dark", "light", or "auto" for the rarer of the two
        photo_fit: how a photo fills the square: "squash", "pad" or "crop"
        photo_lines: edge detector that makes a photo a drawing, dark on white: "none", "sobel" or "canny"

    >>> Sbir(size=96).prepare(Image.new("L", (400, 300), 255), SKETCH).shape
    torch.Size([3, 96, 96])
    """

    size: Annotated[int, Interval(ge=8, le=2048)] = 224
    flip: bool | OfModality[bool] = True
    crop: Annotated[float, Interval(gt=0, le=1)] = 1.0
    rotation: Degrees | OfModality[Degrees] = 0.0
    scale: Factors | OfModality[Factors] = (1.0, 1.0)
    shift: Displacement | OfModality[Displacement] = 0.0
    paired: bool = False
    sketch_fit: Literal["centre", "pad", "squash"] = "centre"
    sketch_margin: Annotated[float, Interval(ge=0, lt=0.5)] = 0.05
    polarity: Literal["auto", "dark", "light"] = "auto"
    photo_fit: Literal["squash", "pad", "crop"] = "squash"
    photo_lines: Literal["none", "sobel", "canny"] = "none"

    def prepare(self, image: Image.Image, modality: int) -> Tensor:
        """A PIL image to uint8 [3, S, S], the same every time."""
        if modality != SKETCH:
            opaque = on_white(image)
            opaque = opaque if opaque.mode == "RGB" else opaque.convert("RGB")  # which would copy
            return self._fit(opaque, self.photo_fit, lines=self.photo_lines).contiguous()
        sheet = drawing(image, self.polarity)
        if self.sketch_fit != "centre":
            grey = self._fit(sheet, self.sketch_fit)
        elif (box := sheet.point([WHITE * (v < WHITE - INK) for v in range(256)]).getbbox()) is None:
            grey = torch.full((1, self.size, self.size), WHITE, dtype=torch.uint8)
        else:
            grey = self._fit(sheet.crop(box), "pad", margin=self.sketch_margin)
        return grey.expand(3, -1, -1).contiguous()

    def __post_init__(self) -> None:
        for low, high in self.scale.values() if isinstance(self.scale, Mapping) else [self.scale]:
            if low > high:
                raise InputError(f"Sbir: scale = [{low}, {high}]: the smallest factor comes first: write [{high}, {low}]")

    def augment(self, image: Tensor, modality: int) -> Tensor:
        """Random change of a prepared image uint8 [3, S, S], by torch's global generator, which gives both modalities the same numbers."""
        crop, top, left, mirror, turn, factor, x, y = torch.rand(8).tolist()
        if modality == SKETCH:  # grey: one channel stands for three
            image = image[:1]
        low, high = of_modality(self.scale, modality)
        angle, scale = (2 * turn - 1) * of_modality(self.rotation, modality), low + factor * (high - low)
        reach = 2 * self.size * of_modality(self.shift, modality)
        shift = ((x - 0.5) * reach, (y - 0.5) * reach)
        if modality == SKETCH:
            scale, shift = kept_on_sheet(image, angle, scale, shift)
        image = moved(image, angle, scale, shift)
        side = round(self.size * (1 - crop * (1 - self.crop)))
        if side < self.size:
            y, x = (round(share * (self.size - side)) for share in (top, left))
            square = image[None, :, y : y + side, x : x + side]
            image = torch.nn.functional.interpolate(square, size=(self.size, self.size), mode="bilinear")[0]
        return (image.flip(-1) if of_modality(self.flip, modality) and mirror < 0.5 else image).expand(3, -1, -1)

    def _fit(self, image: Image.Image, how: str, *, margin: float = 0.0, lines: str = "none") -> Tensor:
        """An image of C channels to uint8 [C, S, S]."""
        width, height = image.size
        if how == "squash":
            height = width = self.size
        else:
            room = self.size - 2 * round(self.size * margin)
            scale = room / (max if how == "pad" else min)(height, width)
            height, width = max(1, round(height * scale)), max(1, round(width * scale))
        pixels = at_size(image, height, width)
        if lines != "none":
            pixels = edge_map(pixels, lines)
        if how == "crop":
            pixels = tv.center_crop(pixels, [self.size, self.size])
        elif how == "pad":
            top, left = (self.size - height) // 2, (self.size - width) // 2
            pixels = tv.pad(pixels, [left, top, self.size - width - left, self.size - height - top], fill=WHITE)
        return pixels


def at_size(image: Image.Image, height: int, width: int) -> Tensor:
    """An image of C channels to uint8 [C, height, width], by the filter of Pillow's bilinear resize.

    Torch's version of it takes a fifth of the time. Its weights have fewer bits, so that a pixel may differ by a level, seldom by two; it gives
    the same pixels on every processor.
    """
    pixels: Tensor = tv.pil_to_tensor(image)
    if pixels.shape[1:] == (height, width):
        return pixels
    return torch.nn.functional.interpolate(pixels[None], (height, width), mode="bilinear", antialias=True)[0]


def of_modality(value: Value | Mapping[Literal["sketch", "photo"], Value], modality: int) -> Value:
    """The value of an option for a modality.

    >>> of_modality({"sketch": 30.0, "photo": 0.0}, SKETCH)
    30.0
    """
    return cast(Value, value["sketch" if modality == SKETCH else "photo"] if isinstance(value, Mapping) else value)


def moved(image: Tensor, angle: float, scale: float, shift: tuple[float, float]) -> Tensor:
    """A uint8 image [C, S, S] rotated by `angle` degrees and scaled about its centre, then shifted by (x, y) pixels, on white."""
    if angle == 0 and scale == 1 and shift == (0, 0):
        return image
    size = image.shape[-1]
    position = (torch.arange(size, dtype=torch.float32, device=image.device) + 0.5) * 2 / size - 1  # of pixels' centres, from -1 to 1
    column, row = (position - 2 * d / size for d in shift)
    sine, cosine = (f(math.radians(angle)) / scale for f in (math.sin, math.cos))
    # a plane of x and one of y, where each pixel comes from; torch's affine_grid takes longer than all the rest
    source = torch.stack([cosine * column + (sine * row)[:, None], (cosine * row)[:, None] - sine * column])
    ink = (WHITE - image[None]).to(torch.float32)  # outside of the image there is none
    ink = torch.nn.functional.grid_sample(ink, source.permute(1, 2, 0)[None], mode="bilinear", padding_mode="zeros", align_corners=False)
    return WHITE - ink[0].round_().to(torch.uint8)


def kept_on_sheet(image: Tensor, angle: float, scale: float, shift: tuple[float, float]) -> tuple[float, tuple[float, float]]:
    """Scale and shift of `moved` with which the box of a sketch's ink [1, S, S], once rotated, stays within the square."""
    if angle == 0 and scale <= 1 and shift == (0, 0):
        return scale, shift
    size = image.shape[-1]
    x, y = ((image[0].amin(axis) < WHITE - INK).nonzero()[:, 0].tolist() or [size // 2] for axis in (0, 1))
    left, right, top, bottom = (edge - size / 2 for edge in (x[0], x[-1] + 1, y[0], y[-1] + 1))
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    corners = [(a * cosine - b * sine, a * sine + b * cosine) for a in (left, right) for b in (top, bottom)]
    spans = [(min(axis), max(axis)) for axis in zip(*corners, strict=True)]
    scale = min(scale, *(size / (high - low) for low, high in spans))
    inside = [min(max(d, -size / 2 - scale * low), size / 2 - scale * high) for d, (low, high) in zip(shift, spans, strict=True)]
    return scale, (inside[0], inside[1])


def edge_map(photo: Tensor, detector: str) -> Tensor:
    """Edge map of a photo uint8 [3, H, W] as a drawing, dark on white, by one of the edge detectors (Zhang et al. 2019, section IV.E)."""
    return as_drawing(DETECTORS[detector](photo[None] / 255))[0].mul(255).to(torch.uint8)


def on_white(image: Image.Image) -> Image.Image:
    """The image on white, without transparency."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def drawing(image: Image.Image, polarity: str = "auto") -> Image.Image:
    """The sketch as mode L, dark ink on white; ink is the side of the middle grey with fewer pixels."""
    grey = alpha_ink(image)
    if grey is not None:
        polarity = "dark"
    else:
        grey = on_white(image).convert("L")
    histogram = np.array(grey.histogram())
    used = np.flatnonzero(histogram)
    darkest, brightest = int(used[0]), int(used[-1])
    if brightest - darkest < INK:
        return Image.new("L", grey.size, WHITE)
    middle = (darkest + brightest) // 2 + 1
    light = polarity == "light" or (polarity == "auto" and histogram[:middle].sum() > histogram[middle:].sum())
    if light:
        histogram, middle = histogram[::-1], 256 - middle
    paper = middle + int(histogram[middle:].argmax())  # the commonest level on the bright side becomes white
    levels = np.arange(256)[:: -1 if light else 1] * (WHITE / paper)
    return grey.point(levels.clip(0, WHITE).round().astype(int).tolist())


def alpha_ink(image: Image.Image) -> Image.Image | None:
    """The drawing in an alpha channel, dark on white, where all visible pixels have one colour; else None."""
    if not image.has_transparency_data:
        return None
    colour, alpha = (np.asarray(image.convert("RGBA"))[..., channels] for channels in (slice(0, 3), 3))
    visible = colour[alpha > 0]
    if alpha.min() == alpha.max() or np.ptp(visible, axis=0).max() > INK:
        return None
    return Image.fromarray(WHITE - alpha)
