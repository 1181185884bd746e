"""Transforms: sketches and photos as square tensors, edge maps, and augmentation."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tests.data.ink import ink_box
from torchvision.transforms.functional import pil_to_tensor

from sbirlib.data.transforms import Sbir, alpha_ink, at_size, drawing, on_white
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH


def stroke(mode: str = "L", ink: Any = 0, paper: Any = 255, size: tuple[int, int] = (200, 120), width: int = 4) -> Image.Image:
    """A box of lines near the left top corner."""
    image = Image.new(mode, size, paper)
    ImageDraw.Draw(image).rectangle((20, 10, 100, 50), outline=ink, width=width)
    return image


def test_a_prepared_picture_is_a_square_of_bytes_alike_in_all_channels() -> None:
    output = Sbir(size=64).prepare(stroke(), SKETCH)
    assert (output.dtype, list(output.shape), output.is_contiguous()) == (torch.uint8, [3, 64, 64], True)
    assert torch.equal(output[0], output[1])
    assert torch.equal(output[0], output[2])
    assert torch.equal(output, Sbir(size=64).prepare(stroke(), SKETCH))


def test_the_drawing_is_scaled_and_centred_wherever_it_was() -> None:
    transform = Sbir(size=100, sketch_margin=0.1)
    output = transform.prepare(stroke(), SKETCH)
    left, top, right, bottom = ink_box(output)
    assert abs(left - 10) <= 1
    assert abs(right - 90) <= 1
    assert abs((top + bottom) / 2 - 50) <= 1
    assert abs((bottom - top) / (right - left) - 41 / 81) < 0.05  # its aspect is kept
    larger = stroke(size=(400, 300))
    assert torch.equal(output, transform.prepare(larger, SKETCH))


@pytest.mark.parametrize("new", [(224, 224), (24, 24), (41, 55), (1, 150), (400, 300)])
@pytest.mark.parametrize("old", [(500, 375), (57, 90), (1, 600), (640, 3), (30, 30)])
def test_resized_pixels_are_pillows_within_two_levels(old: tuple[int, int], new: tuple[int, int]) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (old[1], old[0], 3), np.uint8))
    for image in (noise, noise.convert("L")):
        assert torch.equal(at_size(image, old[1], old[0]), pil_to_tensor(image))
        expected = pil_to_tensor(image.resize(new, Image.Resampling.BILINEAR)).int()
        differences = (at_size(image, new[1], new[0]).int() - expected).abs()
        assert differences.max() <= 2
        assert differences.float().mean() < 0.25


@pytest.mark.parametrize(("fit", "box"), [("pad", (10, 25, 51, 46)), ("squash", (10, 8, 51, 43))])
def test_other_fits_keep_the_sheet(fit: Any, box: tuple[int, ...]) -> None:
    output = Sbir(size=100, sketch_fit=fit).prepare(stroke(), SKETCH)
    assert all(abs(a - b) <= 1 for a, b in zip(ink_box(output), box, strict=True))


@pytest.mark.parametrize(
    "other",
    [
        stroke(ink=255, paper=0),
        stroke("RGB", "white", "black"),
        stroke("RGBA", (0, 0, 0, 255), (0, 0, 0, 0)),  # black on black, visible in alpha
        stroke("RGBA", (255, 255, 255, 255), (255, 255, 255, 0)),
        stroke("RGBA", (0, 0, 0, 255), (255, 255, 255, 0)),
        stroke("LA", (0, 255), (0, 0)),
        stroke(ink=0, paper=180),  # grey paper
    ],
    ids=["inverted", "rgb inverted", "alpha black", "alpha white", "alpha", "la", "grey paper"],
)
def test_however_a_drawing_is_stored_it_becomes_dark_ink_on_white(other: Image.Image) -> None:
    assert torch.equal(Sbir(size=64).prepare(other, SKETCH), Sbir(size=64).prepare(stroke(), SKETCH))


def test_polarity_may_be_an_option() -> None:
    full = Image.new("L", (50, 50), 255)
    ImageDraw.Draw(full).rectangle((5, 5, 44, 44), fill=0)  # more ink than paper
    assert drawing(full, "auto").getpixel((25, 25)) == 255
    assert drawing(full, "dark").getpixel((25, 25)) == 0
    assert drawing(full, "light").getpixel((25, 25)) == 255
    assert drawing(stroke(), "light").getpixel((0, 0)) == 0  # by the option, though the dark pixels are the minority


def test_ink_in_alpha_is_never_inverted() -> None:
    full = Image.new("RGBA", (50, 50), (0, 0, 0, 0))
    ImageDraw.Draw(full).rectangle((2, 2, 47, 47), fill=(0, 0, 0, 255))
    assert drawing(full).getpixel((25, 25)) == 0
    assert drawing(full).getpixel((0, 0)) == 255


def test_alpha_carries_the_drawing_only_where_one_colour_is_seen() -> None:
    assert alpha_ink(stroke()) is None
    assert alpha_ink(stroke("RGB", "white", "black").convert("RGBA")) is None  # opaque
    cut_out = stroke("RGBA", (0, 0, 0, 255), (255, 255, 255, 255))
    cut_out.paste((0, 0, 0, 0), (150, 0, 200, 120))  # a drawing on a white card, transparent beside it
    assert alpha_ink(cut_out) is None
    assert torch.equal(Sbir(size=64).prepare(cut_out, SKETCH), Sbir(size=64).prepare(stroke(), SKETCH))


@pytest.mark.parametrize("blank", [0, 7, 128, 255])
@pytest.mark.parametrize("fit", ["centre", "pad", "squash"])
def test_a_blank_sketch_is_white(blank: int, fit: Any) -> None:
    assert (Sbir(size=32, sketch_fit=fit).prepare(Image.new("L", (50, 40), blank), SKETCH) == 255).all()


def test_a_transparent_sheet_is_white() -> None:
    assert (Sbir(size=32).prepare(Image.new("RGBA", (50, 40), (0, 0, 0, 0)), SKETCH) == 255).all()


def test_faint_strokes_stay_inside_the_box() -> None:
    image = stroke()
    ImageDraw.Draw(image).line((150, 60, 190, 110), fill=225, width=2)
    output = Sbir(size=100, sketch_margin=0.0).prepare(image, SKETCH)
    assert (output[0, 70:80, 90:] < 250).any()  # the far end of the faint line


@pytest.mark.parametrize("size", [64, 96, 224])
def test_thin_strokes_survive_shrinking(size: int) -> None:
    sheet = Image.new("L", (1000, 1000), 255)
    ImageDraw.Draw(sheet).line((100, 100, 900, 850), fill=0, width=3)
    output = Sbir(size=size).prepare(sheet, SKETCH)[0]
    rows = output[size // 8 : -size // 8].min(1).values
    assert (rows < 215).all()  # the line is unbroken
    assert (output == 255).float().mean() > 0.8


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5)])
@pytest.mark.parametrize("modality", [SKETCH, PHOTO])
def test_odd_sizes_are_fine(size: tuple[int, int], modality: int) -> None:
    for fit in ("squash", "pad", "crop"):
        output = Sbir(size=16, photo_fit=fit).prepare(Image.new("RGB", size, (10, 20, 30)), modality)
        assert output.shape == (3, 16, 16)


def halves() -> Image.Image:
    """Twice as wide as high: red on the left, blue on the right."""
    image = Image.new("RGB", (80, 40), "red")
    image.paste((0, 0, 255), (40, 0, 80, 40))
    return image


def test_photos_are_squashed_padded_or_cropped() -> None:
    squash = Sbir(size=40).prepare(halves(), PHOTO)
    assert squash[:, 20, 2].tolist() == [255, 0, 0]
    assert squash[:, 20, 37].tolist() == [0, 0, 255]
    pad = Sbir(size=40, photo_fit="pad").prepare(halves(), PHOTO)
    assert pad[:, 4, 20].tolist() == [255, 255, 255]
    assert pad[:, 20, 2].tolist() == [255, 0, 0]
    crop = Sbir(size=40, photo_fit="crop").prepare(halves(), PHOTO)
    assert crop[:, 2, 2].tolist() == [255, 0, 0]
    assert crop[:, 37, 37].tolist() == [0, 0, 255]


@pytest.mark.parametrize("lines", ["sobel", "canny"])
def test_a_photo_may_become_its_edges_before_it_is_padded_and_turned(lines: Any) -> None:
    transform = Sbir(size=40, photo_fit="pad", photo_lines=lines, rotation=45.0, crop=1.0)
    image = Image.new("L", (80, 40), 60)
    image.paste(200, (40, 0, 80, 40))
    output = transform.prepare(image, PHOTO)
    dark = (output[0] < 128).nonzero()
    assert len(dark) >= 20
    assert set(dark[:, 1].tolist()) <= {18, 19, 20, 21}  # the seam, and no frame
    assert (output[:, :10] == 255).all()
    torch.manual_seed(0)
    turned = transform.augment(output, PHOTO)
    assert 0 < int((turned < 128).sum()) < 3 * 40 * 6
    assert (turned[:, 0] == 255).all()


def test_a_photo_without_background_lies_on_white() -> None:
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((200, 10, 10, 255), (5, 5, 15, 15))
    output = Sbir(size=20).prepare(image, PHOTO)
    assert output[:, 0, 0].tolist() == [255, 255, 255]
    assert output[:, 10, 10].tolist() == [200, 10, 10]
    assert on_white(image.convert("LA")).convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_a_grey_photo_is_not_inverted() -> None:
    assert (Sbir(size=16).prepare(Image.new("L", (30, 30), 20), PHOTO) == 20).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sketch_fit": "center"}, "Sbir: sketch_fit = 'center': expected one of 'centre', 'pad', 'squash'; did you mean 'centre'?"),
        ({"polarity": "black"}, "Sbir: polarity = 'black': expected one of 'auto', 'dark', 'light'"),
        ({"photo_fit": "centre"}, "Sbir: photo_fit = 'centre': expected one of 'squash', 'pad', 'crop'"),
        ({"size": 4}, "Sbir: size = 4: expected a whole number of at least 8"),
        ({"crop": 0}, "Sbir: crop = 0: expected a number above 0 and of at most 1"),
        ({"sketch_margin": 0.5}, "Sbir: sketch_margin = 0.5: expected a number of at least 0 and below 0.5"),
        ({"rotation": -5}, "Sbir: rotation = -5: expected a number of at least 0 and of at most 180"),
        (
            {"rotation": {"sketch": 5.0}},
            "Sbir: rotation = {'sketch': 5.0}: expected a number of at least 0 and of at most 180, or a table of",
        ),
        ({"shift": 0.7}, "Sbir: shift = 0.7: expected a number of at least 0 and of at most 0.5"),
        ({"scale": (1.3, 0.7)}, "Sbir: scale = [1.3, 0.7]: the smallest factor comes first: write [0.7, 1.3]"),
        ({"scale": {"sketch": (1.3, 0.7), "photo": (1.0, 1.0)}}, "Sbir: scale = [1.3, 0.7]: the smallest factor comes first"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        Sbir(**options)


def test_the_array_of_a_drawing_has_only_ink_and_paper() -> None:
    assert set(np.unique(np.asarray(drawing(stroke(ink=40, paper=200)))).tolist()) == {51, 255}
