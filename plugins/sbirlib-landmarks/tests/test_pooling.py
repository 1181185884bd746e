import math

import torch

from sbirlib_landmarks.pooling import bilinear, kernel, landmark_pool, project


def test_projection_is_a_ceiling_kept_inside() -> None:
    points = torch.tensor([[[0.0, 0.0], [1.0, 32.0], [64.0, 63.0], [255.0, 127.0]]])
    expected = [[min(math.ceil(x * 8 / 256), 7), min(math.ceil(y * 4 / 128), 3)] for x, y in points[0].tolist()]
    assert project(points, (128, 256), (4, 8))[0].tolist() == expected


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
