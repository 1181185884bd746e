"""Batches: labels, augmentation seeds, workers, and the cache of prepared images."""

import os
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sbirlib.data import batches as module
from sbirlib.data.batches import Prepared, default_workers, load, mix
from sbirlib.data.dataset import Dataset
from sbirlib.data.transforms import Sbir

LISTS = [[0, 5, 40], [71, 3], [5, 6, 7, 8]]


class Counting:
    """Opens a dataset's images and counts them."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.opened = dataset, 0

    def __call__(self, i: int) -> Image.Image:
        self.opened += 1
        return self.dataset.reader(i)


def all_bytes(prepared: Prepared, *, seed: int = 0, epoch: int = 0, augment: bool = True, workers: int = 0) -> list[Tensor]:
    return [b.images for b in load(prepared, LISTS, seed=seed, epoch=epoch, augment=augment, workers=workers)]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def prepared(dataset: Dataset) -> Prepared:
    return Prepared(dataset, Sbir(size=32))


def test_a_batch_holds_images_in_zero_to_one_and_their_labels(prepared: Prepared, dataset: Dataset) -> None:
    batches = list(load(prepared, LISTS, seed=0, epoch=0, augment=False))
    assert [len(b) for b in batches] == [3, 2, 4]
    for batch, rows in zip(batches, LISTS, strict=True):
        assert batch.images.dtype == torch.float32
        expected = torch.stack([prepared.transform.prepare(dataset.read(i), int(dataset.modality[i])) for i in rows])
        assert torch.equal(batch.images, expected.float() / 255)
        assert batch.modality.tolist() == dataset.modality[rows].tolist()
        assert batch.category.tolist() == dataset.category[rows].tolist()
        assert batch.instance.tolist() == dataset.instance[rows].tolist()
        assert batch.category.dtype == torch.int64


def test_augmentation_depends_on_seed_epoch_and_index_alone(prepared: Prepared) -> None:
    first = all_bytes(prepared)
    torch.rand(3)
    assert same(first, all_bytes(prepared))
    assert not same(first, all_bytes(prepared, seed=1))
    assert not same(first, all_bytes(prepared, epoch=1))
    alone = next(iter(load(prepared, [[8]], seed=0, epoch=0)))
    assert torch.equal(alone.images[0], first[2][3])


class Tagged(Sbir):
    """Augments an image to one of a random grey level, which shows the random numbers that it got."""

    def augment(self, image: Tensor, modality: int) -> Tensor:
        return torch.full_like(image, int(torch.randint(256, ())))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sketch_and_its_photo_are_changed_alike_where_the_transform_pairs_them(dataset: Dataset, workers: int) -> None:
    rows = list(range(len(dataset)))

    def levels(**options: Any) -> tuple[list[int], list[int]]:
        """Grey levels of all images in two epochs."""
        prepared = Prepared(dataset, Tagged(size=32, **options))
        epochs = [next(iter(load(prepared, [rows], seed=0, epoch=epoch, workers=workers))) for epoch in (0, 1)]
        return tuple((255 * batch.images[:, 0, 0, 0]).round().int().tolist() for batch in epochs)  # type: ignore[return-value]

    first, second = levels(paired=True)
    of_instance = [{level for level, i in zip(first, dataset.instance.tolist(), strict=True) if i == own} for own in set(dataset.instance)]
    assert all(len(own) == 1 for own in of_instance)
    assert len(set.union(*of_instance)) > len(of_instance) // 2  # another number for another instance
    assert first != second
    apart, _ = levels(paired=False)
    assert apart != first
    unlabelled = replace(dataset, instance=np.full(len(dataset), -1))
    prepared = Prepared(unlabelled, Tagged(size=32, paired=True))
    batch = next(iter(load(prepared, [rows], seed=0, epoch=0, workers=workers)))
    assert (255 * batch.images[:, 0, 0, 0]).round().int().tolist() == apart  # an image without an instance has a change of its own


def test_the_number_of_workers_does_not_matter_and_the_random_state_is_untouched(prepared: Prepared) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    alone = all_bytes(prepared, workers=0)
    shared = all_bytes(prepared, workers=2)
    assert same(alone, shared)
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]


def test_the_random_state_is_restored_when_a_transform_fails(dataset: Dataset) -> None:
    class Failing(Sbir):
        def augment(self, image: Tensor, modality: int) -> Tensor:
            raise RuntimeError("no")

    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no"):
        list(load(Prepared(dataset, Failing(size=32)), LISTS, seed=0, epoch=0))
    assert torch.equal(state, torch.get_rng_state())


def test_each_image_is_opened_once(dataset: Dataset) -> None:
    reader = Counting(dataset)
    prepared = Prepared(Dataset(**{**dataset.__dict__, "reader": reader}), Sbir(size=32))
    prepared.warm([0, 5, 5, 40])
    assert reader.opened == 3
    all_bytes(prepared)
    all_bytes(prepared, epoch=1)
    assert reader.opened == 8
    prepared.warm()
    assert reader.opened == len(dataset)


def test_what_does_not_fit_is_opened_every_time_and_comes_out_the_same(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = all_bytes(Prepared(dataset, Sbir(size=32)))
    monkeypatch.setattr(module, "CACHE_BYTES", 1000)
    reader = Counting(dataset)
    large = Prepared(Dataset(**{**dataset.__dict__, "reader": reader}), Sbir(size=32))
    assert large.cache is None
    large.warm()
    assert reader.opened == 0
    assert same(expected, all_bytes(large))
    assert same(expected, all_bytes(large))
    assert reader.opened == 18


def test_workers_are_chosen_from_the_cores_where_the_cache_does_not_hold_the_images(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_workers(Prepared(dataset, Sbir(size=32))) == 0
    monkeypatch.setattr(module, "CACHE_BYTES", 1000)
    large = Prepared(dataset, Sbir(size=32))
    for cores, processes, workers in ((1, 1, 0), (2, 1, 1), (8, 1, 7), (8, 4, 1), (8, 8, 1), (64, 1, 16)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: range(cores))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert default_workers(large) == workers
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(3))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    alone = [batch.images for batch in load(large, LISTS, seed=0, epoch=0, workers=0)]
    assert same(alone, [batch.images for batch in load(large, LISTS, seed=0, epoch=0)])


def test_training_never_writes_into_the_kept_pictures(prepared: Prepared) -> None:
    prepared.warm()
    assert prepared.cache is not None
    before = prepared.cache.clone()
    for batch in load(prepared, LISTS, seed=0, epoch=0):
        batch.images.zero_()
    assert torch.equal(before, prepared.cache)


def test_a_subset_reads_its_own_images(dataset: Dataset) -> None:
    photos = Prepared(dataset.photos, Sbir(size=32))
    whole = Prepared(dataset, Sbir(size=32))
    assert len(photos) == 36
    assert torch.equal(photos.image(4), whole.image(int(dataset.photos.index[4])))


def test_mix_tells_its_numbers_apart() -> None:
    mixed = {mix(seed, epoch, i) for seed in range(5) for epoch in range(5) for i in range(200)}
    assert len(mixed) == 5000
    assert len({m & 0xFFFFFFFF for m in mixed}) > 4990  # torch's generator reads the low half
    assert all(0 <= m < 2**64 for m in mixed)
    assert mix(0, 1, 2) == 17650578182555822980  # a golden value, so that runs repeat from version to version
