"""Edge maps and strokes: Sobel, Canny, and a batch of both modalities as line drawings."""

import math

import pytest
import torch
from torch import Tensor

from sbirlib.edges import DETECTORS, EDGE, HIGH, LOW, as_drawing, canny, drawings, gradients, magnitude, sobel, strokes
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch


def square(size: int = 24, low: int = 6, high: int = 18) -> Tensor:
    """A bright square on black, [1, 3, S, S]."""
    image = torch.zeros(1, 3, size, size)
    image[:, :, low:high, low:high] = 1.0
    return image


def test_strokes_are_dark_pixels() -> None:
    image = torch.ones(1, 3, 4, 5)
    image[0, :, 1, 2] = 0.0
    assert strokes(image).nonzero().tolist() == [[0, 1, 2]]


def test_gradients_equal_a_literal_convolution() -> None:
    grey = torch.rand(7, 9, generator=torch.Generator().manual_seed(0)).double()
    blur = [1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16]

    def at(values: list[list[float]], y: int, x: int) -> float:
        return values[min(max(y, 0), 6)][min(max(x, 0), 8)]

    smooth = [
        [sum(blur[i] * blur[j] * at(grey.tolist(), y + i - 2, x + j - 2) for i in range(5) for j in range(5)) for x in range(9)]
        for y in range(7)
    ]
    weight = {-1: 1, 0: 2, 1: 1}
    along_x = [
        [sum(weight[k] * (at(smooth, y + k, x + 1) - at(smooth, y + k, x - 1)) for k in weight) / 8 for x in range(9)] for y in range(7)
    ]
    along_y = [
        [sum(weight[k] * (at(smooth, y + 1, x + k) - at(smooth, y - 1, x + k)) for k in weight) / 8 for x in range(9)] for y in range(7)
    ]
    x, y = gradients(grey.expand(1, 3, -1, -1))
    torch.testing.assert_close(x[0], torch.tensor(along_x, dtype=torch.float64))
    torch.testing.assert_close(y[0], torch.tensor(along_y, dtype=torch.float64))


@pytest.mark.parametrize("detector", ["sobel", "canny"])
def test_the_edges_of_a_square_lie_on_its_border(detector: str) -> None:
    edges = DETECTORS[detector](square())[0]
    points = (edges > EDGE).nonzero()
    assert len(points) >= 4 * 11
    for y, x in points.tolist():
        near = [min(abs(value - 5.5), abs(value - 17.5)) for value in (y, x)]
        assert min(near) <= 2
    assert float(edges[10:14, 10:14].max()) == 0


def test_canny_keeps_thin_lines_and_what_hangs_together_with_a_strong_one() -> None:
    thin = canny(square())[0]
    assert thin.unique().tolist() == [0.0, 1.0]
    assert all(int(thin[row, :12].sum()) <= 2 for row in range(9, 15))
    ramp = torch.zeros(1, 3, 32, 48)
    ramp[:, :, 16:] = torch.linspace(HIGH * 1.6, LOW * 1.6, 48)  # strong on the left, ever weaker to the right
    alone = torch.zeros(1, 3, 32, 48)
    alone[:, :, 16:, 40:] = (LOW + HIGH) / 2
    alone[:, :, 16:, :8] = 1.0
    assert canny(ramp)[0, 14:18, 40].sum() > 0
    assert canny(alone)[0, :, 36:].sum() == 0


@pytest.mark.parametrize("detector", ["sobel", "canny"])
@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
def test_a_flat_picture_has_no_edge(detector: str, grey: float) -> None:
    assert float(DETECTORS[detector](torch.full((2, 3, 16, 16), grey)).max()) == 0


def test_an_edge_map_does_not_depend_on_its_batch() -> None:
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * torch.tensor([0.1, 0.5, 1.0])[:, None, None, None]
    for detector in (sobel, canny):
        torch.testing.assert_close(detector(images)[1:2], detector(images[1:2]))


def test_the_network_sees_dark_lines_on_white() -> None:
    drawing = as_drawing(sobel(square()))
    assert drawing.shape == (1, 3, 24, 24)
    assert math.isclose(float(drawing.max()), 1.0)
    assert float(drawing.min()) == 0.0
    torch.testing.assert_close(DETECTORS["given"](drawing), 1 - drawing.mean(1))


def test_a_batch_as_drawings_has_sketches_as_they_are_and_photos_as_edge_maps() -> None:
    images = torch.cat([1 - square(), square(), 1 - square()])
    labels = torch.zeros(3, dtype=torch.int64)
    batch = Batch(images, torch.tensor([SKETCH, PHOTO, SKETCH]), labels, labels)
    inputs, lines = drawings(batch, "sobel")
    assert torch.equal(inputs[[0, 2]], images[[0, 2]])
    torch.testing.assert_close(inputs[1:2], as_drawing(sobel(images[1:2])))
    assert torch.equal(lines[1], sobel(images[1:2])[0] > EDGE)
    assert torch.equal(lines[0], strokes(images[:1])[0])
    assert torch.equal(batch.images, images)
    with pytest.raises(InputError, match="unknown edges 'hed'"):
        drawings(batch, "hed")


def test_the_gradient_of_an_edge_map_is_finite_in_an_even_area() -> None:
    images = torch.full((2, 3, 12, 12), 0.5)
    images[0, :, 4:8, 4:8] = 0.1
    images.requires_grad_()
    sobel(images).square().sum().backward()
    assert images.grad is not None
    assert bool(images.grad.isfinite().all())
    assert bool((images.grad[0] != 0).any())
    x, y = torch.randn(2, 1, 9, 9)
    x[0, 0, 0] = y[0, 0, 0] = 0
    assert torch.equal(magnitude(x, y), torch.hypot(x, y))
