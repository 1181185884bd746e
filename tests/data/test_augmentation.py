"""Augmentation of prepared images: crops, flips, rotation, scale and shift."""

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tv
from tests.data.ink import ink_box
from torch import Tensor

from sbirlib.data.transforms import Sbir, kept_on_sheet, moved
from sbirlib.interfaces import PHOTO, SKETCH


def picture() -> Tensor:
    return torch.arange(3 * 64 * 64, dtype=torch.int64).reshape(3, 64, 64).div(64).remainder(256).to(torch.uint8)


def test_augment_draws_from_the_global_generator_alone() -> None:
    transform = Sbir(size=64, crop=0.8, rotation=20.0, scale=(0.7, 1.3), shift=0.1)
    torch.manual_seed(3)
    grey = picture()[:1].expand(3, -1, -1)
    first, second = transform.augment(grey, SKETCH), transform.augment(grey, SKETCH)
    torch.manual_seed(3)
    assert torch.equal(first, transform.augment(grey, PHOTO))  # of a sketch one channel is changed, which makes no difference
    assert not torch.equal(first, second)
    assert (first.dtype, first.shape) == (torch.uint8, (3, 64, 64))


def test_augment_changes_nothing_where_all_is_off() -> None:
    image = picture()
    assert torch.equal(Sbir(size=64, flip=False, crop=1).augment(image, PHOTO), image)


def test_flip_mirrors_about_half_of_the_pictures() -> None:
    image, transform = picture(), Sbir(size=64, crop=1)
    image[:, :, 0] = 99
    torch.manual_seed(0)
    kinds = [
        0 if torch.equal(output, image) else 1 if torch.equal(output, image.flip(-1)) else 2
        for output in (transform.augment(image, PHOTO) for _ in range(200))
    ]
    assert 2 not in kinds
    assert 60 < sum(kinds) < 140


def test_a_crop_is_a_square_within_its_limits() -> None:
    """On a ramp in x the crop's first and last columns give its position and its side."""
    ramp = torch.linspace(0, 255, 256).round().to(torch.uint8).expand(3, 256, 256)
    transform = Sbir(size=256, flip=False, crop=0.5)
    torch.manual_seed(0)
    spans = []
    for _ in range(60):
        row = transform.augment(ramp, PHOTO)[0, 100].int()
        spans.append(int(row[-1] - row[0]) + 1)
    assert min(spans) >= 127
    assert max(spans) <= 256
    assert max(spans) - min(spans) > 80


def test_rotation_turns_within_its_limit_and_fills_with_white() -> None:
    torch.manual_seed(0)
    black = torch.zeros(3, 64, 64, dtype=torch.uint8)
    turned = [Sbir(size=64, flip=False, crop=1, rotation=30).augment(black, SKETCH) for _ in range(10)]
    assert all((t[:, 0, 0] > 200).all() or t.float().mean() < 30 for t in turned)
    assert any((t[:, 0, 0] > 200).all() for t in turned)
    assert all((t[:, 32, 32] == 0).all() for t in turned)


def square(side: int = 20) -> Tensor:
    """A black square of `side` pixels in the middle of 64 x 64."""
    image = torch.full((3, 64, 64), 255, dtype=torch.uint8)
    first = 32 - side // 2
    image[:, first : first + side, first : first + side] = 0
    return image


def test_scaling_keeps_to_its_factors_and_the_centre() -> None:
    torch.manual_seed(0)
    transform = Sbir(size=64, flip=False, scale=(0.5, 2.0))
    boxes = np.array([ink_box(transform.augment(square(), PHOTO)) for _ in range(60)])
    sides = boxes[:, 2:] - boxes[:, :2]
    assert 9 <= sides.min() <= 14
    assert 35 <= sides.max() <= 41
    assert np.abs((boxes[:, 2:] + boxes[:, :2]) / 2 - 32).max() <= 1


def test_shifts_keep_to_their_share_of_the_side_along_both_axes() -> None:
    torch.manual_seed(0)
    transform = Sbir(size=64, flip=False, shift=0.125)
    boxes = np.array([ink_box(transform.augment(square(), PHOTO)) for _ in range(60)])
    for displacement in (boxes[:, 0] - 22, boxes[:, 1] - 22):
        assert -9 <= displacement.min() <= -6
        assert 6 <= displacement.max() <= 9


def test_the_ink_of_a_sketch_stays_on_the_sheet() -> None:
    """However it is rotated, scaled and shifted, its four ends are there; a photo is cut."""
    image = torch.full((3, 64, 64), 255, dtype=torch.uint8)
    ends = [(4, 20), (59, 44), (30, 4), (33, 59)]
    for y, x in ends:
        image[:, y - 2 : y + 3, x - 2 : x + 3] = 0
    transform = Sbir(size=64, flip=False, rotation=180.0, scale=(0.7, 1.6), shift=0.3)
    torch.manual_seed(0)
    ink = [float((255 - transform.augment(image, SKETCH)[0].float()).sum()) / 255 / 100 for _ in range(200)]
    assert min(ink) > 0.7**2 * 0.6  # the smallest scale shrinks to a half; ends that meet the border lose little
    cut = [float((255 - transform.augment(image, PHOTO)[0].float()).sum()) / 255 / 100 for _ in range(200)]
    assert min(cut) < 0.2
    blank = torch.full((3, 64, 64), 255, dtype=torch.uint8)
    assert (transform.augment(blank, SKETCH) == 255).all()


def test_the_box_of_the_ink_is_where_the_image_is_moved_to() -> None:
    torch.manual_seed(1)
    image = torch.full((1, 128, 128), 255, dtype=torch.uint8)
    image[:, 20:90, 40:60] = 0
    for _ in range(20):
        angle, wide, x, y = (torch.rand(4) * torch.tensor([360.0, 1.0, 60.0, 60.0]) + torch.tensor([-180.0, 0.6, -30.0, -30.0])).tolist()
        scale, shift = kept_on_sheet(image, angle, wide, (x, y))
        moved_image = moved(image, angle, scale, shift)
        area = float((255 - moved_image.float()).sum()) / 255
        assert abs(area / (1400 * scale**2) - 1) < 0.03  # all of the ink is there


def test_a_change_may_be_of_one_modality_alone() -> None:
    transform = Sbir(
        size=64,
        flip={"sketch": False, "photo": True},
        rotation={"sketch": 30.0, "photo": 0.0},
        scale={"sketch": [0.7, 1.3], "photo": [1.0, 1.0]},
        shift={"sketch": 0.1, "photo": 0.0},
    )
    image = square()
    image[:, 30:34, :8] = 0  # so that mirrored is another image
    torch.manual_seed(0)
    photos = [transform.augment(image, PHOTO) for _ in range(20)]
    assert {torch.equal(photo, image) for photo in photos} == {torch.equal(photo, image.flip(-1)) for photo in photos} == {True, False}
    assert not any(torch.equal(transform.augment(image, SKETCH), image) for _ in range(20))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 31, 64, 224])
def test_an_image_is_moved_as_torchvision_moves_it(size: int, channels: int) -> None:
    random = torch.Generator().manual_seed(size)
    image = torch.randint(0, 256, (channels, size, size), dtype=torch.uint8, generator=random)
    for angle, scale, shift in ((11.3, 0.91, (3.2, -5.1)), (-170.0, 1.3, (0.0, 0.0)), (0.0, 1.0, (2.0, 1.0)), (90.0, 0.5, (-7.25, size))):
        affine: Tensor = tv.affine(255 - image, angle, [*shift], scale, [0.0], interpolation=tv.InterpolationMode.BILINEAR)
        differences = (moved(image, angle, scale, shift).int() - (255 - affine).int()).abs()
        assert differences.max() <= 1  # a sum that lies between two levels may be rounded to either
        assert differences.float().mean() < 0.002
