"""The pool of earlier images: against a literal transcription, as state, and in several processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from tests.processes.launch import run
from torch import Tensor

from sbirlib_acnet.image_pool import ImagePool


def batches(count: int, *, each: int = 5, side: int = 4) -> list[Tensor]:
    """Images [n, 3, S, S] of some steps; the last step has fewer, and one has none."""
    torch.manual_seed(0)
    sizes = [each] * (count - 2) + [0, each - 2]
    return [torch.rand(size, 3, side, side) for size in sizes]


def transcription(images: list[Tensor], size: int) -> list[Tensor]:
    """Zhu et al. 2017, section 4, with the random numbers of the pool: one image after another."""
    torch.manual_seed(1)
    pool: list[Tensor] = []
    judged = []
    for batch in images:
        numbers = torch.rand(len(batch), 2)
        chosen = []
        for image, (chance, place) in zip(batch, numbers, strict=True):
            if len(pool) < size:
                pool.append(image)
                chosen.append(image)
            elif float(chance) < 0.5:
                slot = int(float(place) * size)
                chosen.append(pool[slot])
                pool[slot] = image
            else:
                chosen.append(image)
        judged.append(torch.stack(chosen) if chosen else batch)
    return judged


def judged(pool: ImagePool, images: list[Tensor]) -> list[Tensor]:
    torch.manual_seed(1)
    return [pool(batch) for batch in images]


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_the_pool_is_that_of_cyclegan(size: int) -> None:
    images = batches(40)
    expected, inputs = transcription(images, size), [batch.clone() for batch in images]
    for ours, theirs in zip(judged(ImagePool(size), images), expected, strict=True):
        assert torch.equal(ours, theirs)
    assert all(torch.equal(batch, before) for batch, before in zip(images, inputs, strict=True)), "images are not changed in place"


def test_half_of_the_images_are_earlier_ones_of_any_age() -> None:
    """An image stays for 2 x size images on average, so one that returns is as old on average."""
    images = [torch.full((8, 3, 1, 1), float(step)) for step in range(2000)]
    ages = torch.cat([step - batch[:, 0, 0, 0] for step, batch in enumerate(judged(ImagePool(50), images)) if step > 100])
    assert float((ages > 0).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert float(ages[ages > 0].mean()) == pytest.approx(2 * 50 / 8, rel=0.1)


def test_no_image_is_kept_or_replaced_in_eval_mode() -> None:
    pool, images, state = ImagePool(2).eval(), batches(4), torch.get_rng_state()
    for batch in images:
        assert torch.equal(pool(batch), batch)
    assert int(pool.count) == 0
    assert torch.equal(torch.get_rng_state(), state)


def test_images_of_another_size_empty_the_pool() -> None:
    pool = ImagePool(4)
    judged(pool, batches(4))
    others = torch.ones(2, 3, 8, 8)
    assert torch.equal(pool(others), others)
    assert int(pool.count) == 2


def test_gradients_end_at_the_pool() -> None:
    images = torch.rand(3, 3, 4, 4, requires_grad=True)
    for pool in (ImagePool(2), ImagePool(2).eval()):
        assert not pool(images).requires_grad


@pytest.mark.parametrize("done", [0, 1, 8])
def test_a_pool_goes_on_from_its_state(done: int) -> None:
    """Bit for bit, whether it is empty, filled in part or full; from a file, and into a pool that has other images."""
    images = batches(12)
    whole = judged(ImagePool(7), images)
    first = ImagePool(7)
    assert all(torch.equal(a, b) for a, b in zip(judged(first, images[:done]), whole, strict=False))
    state, numbers = load(save({name: value.contiguous() for name, value in first.state_dict().items()})), torch.get_rng_state()
    for other in (ImagePool(7), ImagePool(7)):
        other(torch.rand(9, 3, 8, 8))
        other.load_state_dict(state)
        torch.set_rng_state(numbers)
        for ours, theirs in zip((other(batch) for batch in images[done:]), whole[done:], strict=True):
            assert torch.equal(ours, theirs)


def test_the_state_of_another_pool_is_refused() -> None:
    other = ImagePool(3)
    judged(other, batches(4))
    with pytest.raises(RuntimeError, match="size mismatch for images"):
        ImagePool(2).load_state_dict(other.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch for images"):
        ImagePool(3).load_state_dict({**other.state_dict(), "images": torch.zeros(3, 3)})


WORKER = """
import sys, torch
from sbirlib.gather import gather_rows
from sbirlib.processes import join, leave, rank, world_size
from sbirlib_acnet.image_pool import ImagePool

join()
torch.manual_seed(0)
pool, results = ImagePool(5), []
for shares in [(2, 3), (4, 0), (0, 2), (3, 3)] * 4:
    images = torch.rand(sum(shares), 3, 4, 4)
    own = images if world_size() == 1 else images.split(shares)[rank()]
    results.append(gather_rows(pool(own)))
if rank() == 0:
    torch.save([*results, pool.images], sys.argv[1])
leave()
"""


def test_two_processes_have_the_pool_of_one(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    for count in (1, 2):
        process = run(count, str(tmp_path / "worker.py"), str(tmp_path / f"{count}.pt"))
        assert process.returncode == 0, process.stderr
    one, two = (torch.load(tmp_path / f"{count}.pt", weights_only=True) for count in (1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
