"""Preparation of an image for an exported encoder, in words and values, for programs without sbirlib."""

from __future__ import annotations

from sbirlib.data.around import Around
from sbirlib.data.transforms import INK, WHITE, Sbir
from sbirlib.edges import BLUR, FLAT, HIGH, LOW
from sbirlib.interfaces import PHOTO, Transform

READ = "decode the image, 8 bits a channel, upright as its EXIF orientation says; of an animation the first frame; palettes and CMYK become RGB"
TENSOR = "the tensor holds level / 255 as float32, in the order [channel, row, column], channels red, green, blue"
RESIZE = "resize bilinearly with antialiasing (the triangle filter of Pillow's BILINEAR, widened by a reduction's factor; within two levels of it)"


def steps(transform: Transform, modality: int) -> list[str]:
    """The steps from a file to the tensor [3, S, S], in order; a transform of another plugin is named alone."""
    if isinstance(transform, Around):
        return steps(transform.transform, modality)
    if not isinstance(transform, Sbir):
        return [READ, f"{type(transform).__name__}.prepare of sbirlib's plugin: its code says how", TENSOR]
    return [READ, *(_of_photo(transform) if modality == PHOTO else _of_sketch(transform)), TENSOR]


def _of_photo(transform: Sbir) -> list[str]:
    return [
        "where the image has transparency, composite it on white; then convert it to RGB, 8 bits a channel",
        *_fit(transform.photo_fit, transform.size, 0.0, _lines(transform)),
    ]


def _of_sketch(transform: Sbir) -> list[str]:
    paper = [
        f"where the image has an alpha channel that varies, and its pixels of alpha above 0 span at most {INK} levels in each channel, the sheet is "
        f"{WHITE} - alpha, with dark ink; else composite on white where there is transparency, and convert to grey, 8 bits: "
        "(19595 R + 38470 G + 7471 B + 32768) >> 16",
        f"d and b are the darkest and the brightest level of the sheet; where b - d < {INK}, the sheet becomes all {WHITE}, and the next two steps "
        "are left out",
        f"m = (d + b) // 2 + 1; {_polarity(transform.polarity)}: where it is light, each level v becomes {WHITE} - v, and m becomes {WHITE + 1} - m",
        f"p is the commonest level from m up, the lowest of equals; each level v becomes min(v * ({WHITE} / p), {WHITE}), rounded half to even",
    ]
    grey = ["the three channels of the tensor are the same grey"]
    if transform.sketch_fit != "centre":
        return [*paper, *_fit(transform.sketch_fit, transform.size, 0.0, []), *grey]
    box = (
        f"crop to the bounding box of all pixels below {WHITE - INK}; where there is none, the result is {transform.size} x {transform.size} pixels "
        f"of {WHITE}"
    )
    return [*paper, box, *_fit("pad", transform.size, transform.sketch_margin, []), *grey]


def _polarity(polarity: str) -> str:
    rule = "the ink is light where more pixels are below m than not, else dark"
    return rule if polarity == "auto" else f"the ink is {polarity} (dark where the sheet comes from alpha)"


def _fit(how: str, size: int, margin: float, lines: list[str]) -> list[str]:
    """Steps to a square of side `size`, with line detection before any border is added or cut."""
    if how == "squash":
        return [f"{RESIZE} to {size} x {size} pixels, whatever the aspect", *lines]
    room = size - 2 * round(size * margin)
    side = "longer" if how == "pad" else "shorter"
    resize = f"{RESIZE} so that the {side} side has {room} pixels, and the other side its share, rounded half to even, at least 1"
    if how == "crop":
        return [
            resize,
            *lines,
            f"cut out the middle {size} x {size} pixels, from round((height - {size}) / 2), round((width - {size}) / 2)",
        ]
    return [
        resize,
        *lines,
        f"pad with {WHITE} to {size} x {size} pixels, with ({size} - height) // 2 rows above and ({size} - width) // 2 columns left",
    ]


def _lines(transform: Sbir) -> list[str]:
    """The edge detector, whose code is sbirlib/edges.py."""
    if transform.photo_lines == "none":
        return []
    taps = ", ".join(f"{tap:g}" for tap in BLUR)
    gradients = (
        "the image becomes its edge map: grey in [0, 1] is the mean of the channels / 255; it is smoothed by "
        f"({taps}) / 16 along rows and columns, and its gradient (x, y) is that of Sobel's operator / 8, each with the border repeated; "
        f"strength is the gradient's length over the largest in the image, or 0 where the largest is at most {FLAT}"
    )
    canny = (
        "ridges are pixels no weaker than their neighbour ahead along the gradient, rounded to an eighth of a turn, and stronger than "
        f"that behind; edges are ridges above {LOW} that ridges above {LOW} connect, among eight neighbours, to one above {HIGH}: "
        "these have the strength 1, all else 0"
    )
    drawing = "each channel's level is (1 - strength) * 255, the fraction cut off"
    return [gradients, *([canny] if transform.photo_lines == "canny" else []), drawing]
