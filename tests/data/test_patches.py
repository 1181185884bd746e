"""Shuffled patches: pairs alike, the share, and sizes that cannot be cut."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from sbirlib import InputError
from sbirlib.data.patches import ShuffledPatches, shuffled
from sbirlib.data.transforms import Sbir
from sbirlib.exchange.preparation import steps
from sbirlib.interfaces import PHOTO, SKETCH

INNER = Sbir(size=12, flip=False)


def image() -> torch.Tensor:
    return torch.arange(3 * 12 * 12).reshape(3, 12, 12).remainder(251).to(torch.uint8)


@pytest.mark.parametrize("cells", [2, 3, 4])
def test_patches_are_where_the_order_says(cells: int) -> None:
    order, side = torch.randperm(cells**2), 12 // cells
    result = shuffled(image(), order)
    for i, source in enumerate(order.tolist()):
        (y, x), (top, left) = divmod(i, cells), divmod(source, cells)
        own = result[:, y * side : (y + 1) * side, x * side : (x + 1) * side]
        assert torch.equal(own, image()[:, top * side : (top + 1) * side, left * side : (left + 1) * side])


@pytest.mark.parametrize(("share", "changed"), [(0.0, False), (1.0, True)])
def test_the_share_says_how_often(share: float, changed: bool) -> None:
    transform = ShuffledPatches(transform=INNER, cells=3, share=share)
    torch.manual_seed(0)
    results = [transform.augment(image(), PHOTO) for _ in range(5)]
    assert all(torch.equal(result, image()) != changed for result in results)
    assert all(sorted(result.flatten().tolist()) == sorted(image().flatten().tolist()) for result in results)


def test_a_pair_is_cut_alike_and_queries_stay_whole() -> None:
    transform = ShuffledPatches(transform=Sbir(size=12, paired=True), cells=3, share=1.0)
    grey = image()[:1].expand(3, -1, -1)
    results = []
    for modality in (SKETCH, PHOTO):
        torch.manual_seed(3)
        results.append(transform.augment(grey, modality))
    assert transform.paired
    assert torch.equal(*results)
    picture = Image.new("RGB", (30, 30), "red")
    assert torch.equal(transform.prepare(picture, PHOTO), transform.transform.prepare(picture, PHOTO))
    assert steps(transform, SKETCH) == steps(transform.transform, SKETCH)


def test_a_size_that_the_cells_do_not_divide_is_refused() -> None:
    with pytest.raises(InputError, match="size = 12 cannot be cut in 5 equal parts"):
        ShuffledPatches(transform=INNER, cells=5)
