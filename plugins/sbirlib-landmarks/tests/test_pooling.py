import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib_landmarks.points import farthest_points
from sbirlib_landmarks.pooling import Projection, bilinear, kernel, landmark_pool, own_cells, project


def literal(place: float, side: int, cells: int, projection: Projection) -> float:
    """Projection of one coordinate (section III.A): multiplied by the ratio of map and image, and made a place on the map."""
    if projection == "centre":
        return min(max((place + 0.5) * cells / side - 0.5, 0.0), cells - 1.0)
    whole = math.floor(place * cells / side) if projection == "floor" else math.ceil(place * cells / side)
    return float(min(max(whole, 0), cells - 1))


@pytest.mark.parametrize("projection", ["centre", "floor", "ceil"])
def test_a_projection_equals_its_formula_and_stays_on_the_map(projection: Projection) -> None:
    points = torch.tensor([[[0.0, 0.0], [1.0, 32.0], [31.0, 31.0], [64.0, 63.0], [100.0, 90.0], [255.0, 127.0]]])
    expected = [[literal(x, 256, 8, projection), literal(y, 128, 4, projection)] for x, y in points[0].tolist()]
    places = project(points, (128, 256), (4, 8), projection)
    assert places[0].tolist() == expected
    own = own_cells(places, (4, 8))[0].tolist()
    for (x, y), cell in zip(expected, own, strict=True):
        nearest = min(((j - y) ** 2 + (i - x) ** 2, 8 * j + i) for j in range(4) for i in range(8))
        assert cell == nearest[1]


def test_the_centre_is_the_default_and_its_own_cell_is_the_floor() -> None:
    points = torch.cartesian_prod(torch.arange(40.0), torch.arange(24.0))[None]
    places = project(points, (24, 40), (6, 5))
    torch.testing.assert_close(places, project(points, (24, 40), (6, 5), "centre"), rtol=0, atol=0)
    assert torch.equal(own_cells(places, (6, 5)), own_cells(project(points, (24, 40), (6, 5), "floor"), (6, 5)))


def drawings(count: int, size: int = 64) -> Tensor:
    """Masks of random polylines of one pixel, bool [count, size, size]."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(count, size, size, dtype=torch.bool)
    share = torch.linspace(0, 1, 2 * size)[:, None]
    for mask in masks:
        corners = torch.rand(5, 2, generator=generator) * (size - 1)
        for start, end in pairwise(corners):
            x, y = (start + share * (end - start)).round().long().T
            mask[y, x] = True
    return masks


@pytest.mark.parametrize(("projection", "all_on_ink"), [("centre", True), ("floor", True), ("ceil", False)])
def test_a_landmark_on_ink_pools_a_cell_with_ink(projection: Projection, all_on_ink: bool) -> None:
    masks = drawings(20)
    ink = F.max_pool2d(masks[:, None].float(), 8)  # [20, 1, 8, 8]: whether a cell has ink
    places = project(farthest_points(masks, 30), (64, 64), (8, 8), projection)
    pooled = (bilinear(places, (8, 8)) * ink).sum((2, 3))
    assert bool((pooled > 0).all()) == all_on_ink
    own = ink.flatten(1).gather(1, own_cells(places, (8, 8)))
    assert bool((own > 0).all()) == all_on_ink
    assert all_on_ink or 0.3 < float((own > 0).float().mean()) < 0.8


def test_pooling_equals_the_equations_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    places = torch.rand(2, 6, 2, generator=generator, dtype=torch.float64) * 7 - 1  # some lie outside

    def g(place: float, cell: int) -> float:  # eq. 3 and 4
        return max(0.0, 1 - abs(place - cell))

    for b in range(2):
        for c in range(3):
            total = 0.0
            for x, y in places[b].tolist():
                total += sum(g(x, i) * g(y, j) * float(features[b, c, j, i]) for j in range(4) for i in range(5))  # eq. 1 and 2
            assert math.isclose(float(landmark_pool(features, places)[b, c]), total / 6, rel_tol=1e-12)
    assert torch.equal(bilinear(places, (4, 5))[..., 2, 3], kernel(places[..., 1], 4)[..., 2] * kernel(places[..., 0], 5)[..., 3])


def test_gradients_agree_with_differences_off_the_cells() -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.rand(2, 3, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    whole = torch.randint(0, 3, (2, 5, 2), generator=generator).double()
    places = (whole + 0.1 + 0.8 * torch.rand(2, 5, 2, generator=generator, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(landmark_pool, (features, places))


def test_on_a_cell_the_slope_is_that_to_the_right() -> None:
    features = torch.arange(12.0, dtype=torch.float64).reshape(1, 1, 3, 4) ** 2
    places = torch.tensor([[[1.0, 1.0]]], dtype=torch.float64, requires_grad=True)
    landmark_pool(features, places).sum().backward()
    assert places.grad is not None
    assert places.grad[0, 0].tolist() == [6.0**2 - 5.0**2, 9.0**2 - 5.0**2]
    assert float(landmark_pool(features, places)) == 25.0
