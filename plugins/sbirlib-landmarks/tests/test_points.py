import pytest
import torch
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib_landmarks.points import farthest_points, grid_points, of_every_pixel


def literal(lines: Tensor, count: int) -> list[tuple[float, float]]:
    """Farthest-point sampling of one mask [H, W], pixel by pixel."""
    pixels = [(float(x), float(y)) for y, x in lines.nonzero().tolist()]
    middle = (sum(x for x, _ in pixels) / len(pixels), sum(y for _, y in pixels) / len(pixels))

    def far(a: tuple[float, float], b: tuple[float, float]) -> float:
        return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2

    points = [max(pixels, key=lambda p: (far(p, middle), -pixels.index(p)))]
    while len(points) < min(count, len(pixels)):
        points.append(max(pixels, key=lambda p: (min(far(p, c) for c in points), -pixels.index(p))))
    return [points[n % len(points)] for n in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_literal_version_on_masks_of_any_density(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(4, 9, 11, generator=generator) < torch.tensor([0.05, 0.2, 0.6, 1.0])[:, None, None]
    masks[:, 3, 4] = True  # none is blank
    points = farthest_points(masks, 7)
    assert points.tolist() == [[list(p) for p in literal(mask, 7)] for mask in masks]


def test_points_of_a_mask_do_not_depend_on_its_batch() -> None:
    masks = torch.rand(6, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.3
    masks[2] = False
    whole = farthest_points(masks, 10)
    for i in range(6):
        assert torch.equal(whole[i : i + 1], farthest_points(masks[i : i + 1], 10))


def test_points_are_spread_along_a_line() -> None:
    masks = torch.zeros(1, 8, 101, dtype=torch.bool)
    masks[0, 4] = True
    x = farthest_points(masks, 5)[0, :, 0].sort().values
    assert x.tolist() == [0, 25, 50, 75, 100]


def test_fewer_pixels_than_points_come_again() -> None:
    masks = torch.zeros(1, 6, 6, dtype=torch.bool)
    masks[0, 1, 2] = masks[0, 5, 5] = True
    assert farthest_points(masks, 5)[0].tolist() == [[2, 1], [5, 5], [2, 1], [5, 5], [2, 1]]


def test_a_blank_mask_has_its_points_on_a_grid() -> None:
    blank = torch.zeros(2, 8, 16, dtype=torch.bool)
    points = farthest_points(blank, 4)
    assert points.tolist() == [[[3.5, 1.5], [11.5, 1.5], [3.5, 5.5], [11.5, 5.5]]] * 2
    assert grid_points(5, 9, 9).shape == (5, 2)
    assert sorted(set(grid_points(30, 60, 60)[:, 1].tolist())) == [5.5, 17.5, 29.5, 41.5, 53.5]  # five rows of six, over the whole side
    blank[0, 0, 0] = True
    assert farthest_points(blank, 4)[1].tolist() == points[1].tolist()


def test_no_image_and_no_point() -> None:
    assert farthest_points(torch.zeros(0, 8, 8, dtype=torch.bool), 3).shape == (0, 3, 2)
    with pytest.raises(InputError, match="at least 1 point"):
        farthest_points(torch.zeros(1, 8, 8, dtype=torch.bool), 0)


@pytest.mark.parametrize("count", [1, 4, 30])
def test_the_graph_of_fixed_shapes_gives_the_same_points(count: int) -> None:
    masks = torch.rand(6, 20, 24, generator=torch.Generator().manual_seed(0)) < torch.tensor([0, 0.004, 0.02, 0.1, 0.5, 1.0])[:, None, None]
    assert of_every_pixel(masks, count).equal(farthest_points(masks, count))
