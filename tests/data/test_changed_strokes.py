"""Changed strokes: pieces by a search over pixels, wider lines, and photos and searched sketches as they were."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sbirlib.data.changed_strokes import ChangedStrokes, pieces, thickened
from sbirlib.data.transforms import Sbir
from sbirlib.exchange.preparation import steps
from sbirlib.interfaces import PHOTO, SKETCH

INNER = Sbir(size=64, flip=False)


def sketch() -> Tensor:
    sheet = Image.new("L", (64, 64), 255)
    draw = ImageDraw.Draw(sheet)
    draw.line([4, 4, 4, 60], fill=0, width=2)
    draw.line([10, 4, 60, 4], fill=0, width=2)
    draw.ellipse([20, 20, 50, 50], outline=0, width=2)
    return INNER.prepare(sheet, SKETCH)


def by_search(ink: Tensor, seeds: list[int], reach: int) -> Tensor:
    """Breadth-first search over the eight neighbours of pixels of ink."""
    pixels = [tuple(pixel) for pixel in ink.nonzero().tolist()]
    front = {pixels[i] for i in seeds}
    reached = set(front)
    for _ in range(reach):
        front = {(y + dy, x + dx) for y, x in front for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & set(pixels) - reached
        reached |= front
    result = torch.zeros_like(ink)
    for y, x in reached:
        result[y, x] = True
    return result


@pytest.mark.parametrize("reach", [0, 1, 5, 100])
def test_a_piece_is_the_ink_nearby_along_the_strokes(reach: int) -> None:
    ink = torch.rand(24, 24, generator=torch.Generator().manual_seed(reach)) < 0.3
    where = torch.tensor([0.1, 0.6])
    seeds = [int(share * int(ink.sum())) for share in where.tolist()]
    assert torch.equal(pieces(ink, where, reach), by_search(ink, seeds, reach))
    assert not pieces(ink, where[:0], reach).any()
    assert not pieces(torch.zeros_like(ink), where, reach).any()


def test_strokes_that_do_not_touch_a_piece_stay() -> None:
    image, transform = sketch(), ChangedStrokes(transform=INNER, pieces=1, length=1.0, thicker=0.0)
    lost = []
    for seed in range(12):
        torch.manual_seed(seed)
        result = transform.augment(image, SKETCH)
        assert bool((result >= image).all()), "ink is only erased"
        lost.append(float((result > image).sum() / (image < 255).sum()))
    assert min(lost) == 0 < max(lost) < 0.8


def test_nothing_faint_is_left_of_a_stroke_that_is_erased_and_half_of_the_ink_stays() -> None:
    sheet = Image.new("L", (400, 400), 255)
    draw = ImageDraw.Draw(sheet)
    draw.line([10, 20, 390, 60], fill=0, width=7)
    draw.line([60, 250, 140, 350], fill=0, width=7)
    image, transform = INNER.prepare(sheet, SKETCH), ChangedStrokes(transform=INNER, pieces=1, length=1.0)
    assert len(image.unique()) > 10, "its edges are grey"
    shares = []
    for seed in range(20):
        torch.manual_seed(seed)
        ink = 255 - transform.augment(image, SKETCH)
        shares.append(float(ink.sum() / (255 - image.float()).sum()))
        assert int(ink[:, 20:].sum()) in (0, int((255 - image)[:, 20:].sum())), "the short line is whole, or gone"
    assert 0.5 < min(shares) < 1


def test_colours_stay() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Coloured(Sbir):
        def augment(self, image: Tensor, modality: int) -> Tensor:
            return image

    image = sketch().clone()
    image[0][image[0] < 255] = 250  # cyan ink
    torch.manual_seed(2)
    result = ChangedStrokes(transform=Coloured(size=64), pieces=1).augment(image, SKETCH)
    assert set(map(tuple, result.flatten(1).T.tolist())) <= set(map(tuple, image.flatten(1).T.tolist())) | {(255, 255, 255)}


@pytest.mark.parametrize("width", [0.0, 0.5, 1.0, 2.0, 3.3])
def test_lines_are_wider_by_the_pixels(width: float) -> None:
    ink = torch.zeros(1, 32, 32)
    ink[:, 4:28, 15:17] = 1
    across = thickened(ink, width)[0, 16]
    assert float(across.sum()) == pytest.approx(2 + width, abs=1e-5)
    assert torch.equal(across, across.flip(0))


def test_photos_and_searched_sketches_are_as_before_and_numbers_are_those_of_the_inner_transform() -> None:
    inner = Sbir(size=64, paired=True, rotation=20.0)
    transform, picture = ChangedStrokes(transform=inner), Image.new("RGB", (30, 30), "red")
    assert transform.paired
    assert transform.size == 64
    photo = inner.prepare(picture, PHOTO)
    results = []
    for each in (transform, inner):
        torch.manual_seed(3)
        results.append(each.augment(photo, PHOTO))
    assert torch.equal(*results)
    assert torch.equal(transform.prepare(picture, SKETCH), inner.prepare(picture, SKETCH))
    assert steps(transform, SKETCH) == steps(inner, SKETCH)


def test_the_same_seed_gives_the_same_sketch_and_others_differ() -> None:
    transform, results = ChangedStrokes(transform=INNER), []
    for seed in (0, 0, 1, 2):
        torch.manual_seed(seed)
        results.append(transform.augment(sketch(), SKETCH))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[2], results[3])
    assert results[0].dtype == torch.uint8


def test_a_blank_sketch_stays_blank() -> None:
    blank = torch.full((3, 64, 64), 255, dtype=torch.uint8)
    assert torch.equal(ChangedStrokes(transform=INNER).augment(blank, SKETCH), blank)
