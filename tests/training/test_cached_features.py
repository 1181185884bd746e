"""Cached features: the training is that without a cache, nothing is computed twice, and wrong places are refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sbirlib import InputError, build
from sbirlib.data.dataset import Dataset
from sbirlib.interfaces import Batch
from sbirlib.pipeline import Pipeline
from sbirlib.testing.world import batch, separable
from sbirlib.training.cache.entry import Entry
from sbirlib.training.cache.store import FeatureStore, prune

Way = tuple[str, str, tuple[str, ...], dict[str, int]]
RESNET: Way = ("resnet18", "encoder.backbone.layer2", ("conv1", "bn1", "layer1", "layer2"), {})
WHOLE: Way = ("resnet18", "encoder.backbone", ("",), {})
EFFICIENT: Way = ("tf_efficientnet_lite0", "encoder.backbone.blocks.4", ("conv_stem", "bn1", *(f"blocks.{i}" for i in range(5))), {})
TOWER: Way = ("vit_tiny_patch16_224", "encoder.backbone", ("",), {"img_size": 32})


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sbirlib" / "features"


@pytest.fixture(scope="module")
def images() -> Dataset:
    return separable(categories=4, instances=4)


def pipeline_of(
    backbone: str = RESNET[0], module: str = RESNET[1], frozen: Sequence[str] = RESNET[2], options: Any = None, **changes: Any
) -> Pipeline:
    """A classifier whose phase freezes modules of its backbone, and caches the features of the last of them, unless `cached` is false."""
    cached, draws = changes.pop("cached", True), changes.pop("draws", 8)
    rules = [{"of": f"encoder.backbone.{name}".rstrip("."), "frozen": True} for name in frozen]
    phase = {
        "steps": 5,
        "optimizer": {"lr": 1e-3},
        "parameters": rules,
        **({"cache": {"module": module, "draws": draws}} if cached else {}),
    }
    encoder = {"name": "backbone", "backbone": backbone, "pretrained": False, "dim": 8, "timm_options": options or {}}
    return build(**{
        "encoder": encoder, "transform": {"size": 32, "crop": 0.8}, "sampler": {"categories": 3, "per_modality": 2},
        "losses": ["cross_entropy"], "phases": [phase], **changes,
    })  # fmt: skip


def losses_of(pipeline: Pipeline, images: Dataset, **options: Any) -> list[float]:
    losses: list[float] = []
    pipeline.fit(images, progress=False, on_step=lambda event: losses.append(sum(event.losses.values())), **options)
    return losses


@pytest.mark.parametrize("way", [RESNET, WHOLE, EFFICIENT, TOWER], ids=["stage", "resnet", "efficientnet", "vit"])
def test_a_training_with_a_cache_is_that_without(way: Any, images: Dataset) -> None:
    plain, cached = pipeline_of(*way, cached=False), pipeline_of(*way)
    before = {name: value.clone() for name, value in cached.model.named_parameters()}
    assert losses_of(cached, images) == pytest.approx(losses_of(plain, images), rel=1e-5)
    frozen = tuple(f"encoder.backbone.{name}".rstrip(".") + "." for name in way[2])
    for (name, own), other in zip(cached.model.named_parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-5, msg=name)
        assert name not in before or name.startswith(frozen) == torch.equal(own, before[name]), name
    with torch.no_grad():
        vectors = [pipeline.model.encoder(batch(size=32)).vector for pipeline in (cached, plain)]  # images again, and not features
    torch.testing.assert_close(*vectors, rtol=1e-3, atol=1e-4)


def test_features_are_computed_once(images: Dataset, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    compute = Entry.features

    def counted(self: Entry, batch: Batch) -> Tensor:
        batches.append(len(batch))
        return compute(self, batch)

    monkeypatch.setattr(Entry, "features", counted)
    first = losses_of(pipeline_of(), images)
    assert max(batches) == 12
    content = {file: file.read_bytes() for file in cache_folder.rglob("*") if file.is_file()}
    assert {file.name for file in content} == {"about.json", "features.bin", "digests.bin"}
    batches.clear()
    assert losses_of(pipeline_of(), images) == first
    assert max(batches) <= 8  # images of the trial
    assert losses_of(pipeline_of(encoder={"name": "backbone", "backbone": "resnet18", "pretrained": False, "dim": 16}), images) != first
    assert max(batches) <= 8, "another head shares the features"
    assert {file: file.read_bytes() for file in cache_folder.rglob("*") if file.is_file()} == content


def test_epochs_take_the_draws_in_turn(images: Dataset, cache_folder: Path) -> None:
    def rows(draws: int) -> int:
        losses_of(pipeline_of(draws=draws), images)
        folder = max(cache_folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        digests = torch.frombuffer(bytearray((folder / "digests.bin").read_bytes()), dtype=torch.int64).reshape(len(images), draws)
        return int((digests != 0).any(0).sum())

    assert rows(1) == 1
    assert rows(3) == 3, "five steps are more than three epochs"


@pytest.mark.parametrize("change", [{"seed": 1}, {"transform": {"size": 32, "crop": 0.7}}, {"data": None}, {"draws": 4}])
def test_features_of_other_inputs_are_others(change: dict[str, Any], images: Dataset, cache_folder: Path) -> None:
    pipeline_of().fit(images, progress=False)
    data = separable(categories=4, instances=5) if "data" in change else images
    pipeline_of(**{name: value for name, value in change.items() if name != "data"}).fit(data, progress=False)
    assert len(list(cache_folder.iterdir())) == 2


def test_features_of_other_weights_are_others(images: Dataset, cache_folder: Path) -> None:
    pipeline_of().fit(images, progress=False)
    other = pipeline_of()
    with torch.no_grad():
        other.model.encoder.get_parameter("backbone.conv1.weight").mul_(1.01)
    other.fit(images, progress=False)
    assert len(list(cache_folder.iterdir())) == 2


def test_a_row_that_is_damaged_is_computed_again(images: Dataset, cache_folder: Path) -> None:
    first = losses_of(pipeline_of(), images)
    (file,) = cache_folder.rglob("features.bin")
    content = file.read_bytes()
    file.write_bytes(bytes(byte ^ 0x40 for byte in content))
    assert losses_of(pipeline_of(), images) == first
    assert file.read_bytes() != content  # of rows that this run did not ask for
    file.write_bytes(content[: len(content) // 2])
    assert losses_of(pipeline_of(), images) == first


def test_a_run_with_a_cache_is_resumed_exactly(images: Dataset, tmp_path: Path) -> None:
    def stop(event: Any) -> None:
        if event.done == 3:
            raise KeyboardInterrupt

    whole = losses_of(pipeline_of(), images)
    with pytest.raises(KeyboardInterrupt):
        pipeline_of().fit(images, progress=False, out=tmp_path / "run", save_every=2, on_step=stop)
    assert losses_of(pipeline_of(), images, out=tmp_path / "run", resume=True) == whole[2:]


def test_chunks_take_features_too(images: Dataset) -> None:
    rules = pipeline_of().recipe.phases[0].parameters
    phase = {"steps": 3, "chunk": 5, "parameters": [*map(vars, rules), {"of": "encoder.backbone", "eval": True}]}
    plain = pipeline_of(phases=[phase])
    cached = pipeline_of(phases=[{**phase, "cache": {"module": RESNET[1]}}])
    assert losses_of(cached, images) == pytest.approx(losses_of(plain, images), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"module": "encoder.backbone.layer9"}, r"no module 'encoder.backbone.layer9'; .*encoder.backbone.layer"),
        ({"module": "encoder"}, "no module 'encoder'"),
        ({"module": "losses.cross_entropy"}, "no module"),
        ({"draws": 0}, r"phases.0.cache.draws = 0"),
        ({"module": "encoder.backbone.layer3"}, r"layer3.* train, such as encoder.backbone.layer3"),
        ({"frozen": ("conv1", "layer1", "layer2")}, r'{ of = "encoder.backbone.bn1", frozen = true }'),
        ({"backbone": TOWER[0], "options": TOWER[3], "module": "encoder.backbone.blocks.3", "frozen": ("",)}, "cannot be entered behind"),
        ({"compile": True}, "compile and cache exclude each other"),
        ({"losses": ["sketch_decoder", "cross_entropy"]}, "'sketch_decoder' reads the images"),
    ],
)
def test_a_wrong_place_is_refused(changes: dict[str, Any], message: str, images: Dataset) -> None:
    with pytest.raises(InputError, match=message):
        pipeline_of(**changes).fit(images, progress=False)


def test_parameters_that_are_no_modules_are_not_cut_off(images: Dataset) -> None:
    """Prompts enter the backbone without a module of their own: on cached features they would never train."""
    tower = {"name": "backbone", "backbone": TOWER[0], "pretrained": False, "dim": 8, "timm_options": TOWER[3]}
    phase = {
        "steps": 2,
        "cache": {"module": "encoder.encoder.backbone"},
        "parameters": [{"of": "encoder.encoder.backbone", "frozen": True}],
    }
    with pytest.raises(InputError, match="1 parameters on the way to encoder.encoder.backbone train, such as encoder.prompts"):
        pipeline_of(encoder={"name": "prompt", "count": 2, "encoder": tower}, phases=[phase]).fit(images, progress=False)


def test_the_rules_that_are_named_are_enough(images: Dataset) -> None:
    with pytest.raises(InputError) as error:
        pipeline_of(frozen=("layer4",)).fit(images, progress=False)
    names = [part.split('"')[0].removeprefix("encoder.backbone.") for part in str(error.value).split('of = "')[1:]]
    assert names == ["conv1", "bn1", "layer1", "layer2"]


def test_a_full_disk_is_named(images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(InputError, match="No space left on device.*may take .* GB; make room"):
        pipeline_of().fit(images, progress=False)


def test_rows_are_there_once_they_are_written(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "store", 10, (2, 3), {})
    rows, features = torch.tensor([7, 2]).numpy(), torch.randn(2, 2, 3)
    assert not store.read(rows)[1].any()
    store.write(rows, features)
    again = FeatureStore(tmp_path / "store", 10, (2, 3), {})
    values, there = again.read(torch.tensor([2, 3, 7, 7]).numpy())
    assert there.tolist() == [True, False, True, True]
    assert torch.equal(values[[2, 0]], features)
    store.close()
    again.close()


def test_the_stores_that_were_not_used_for_longest_go_first(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "features.bin").write_bytes(b"1" * 100_000)
        os.utime(tmp_path / str(number), (number, number))
    prune(tmp_path, tmp_path / "0", 250_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "3"]
    prune(tmp_path, tmp_path / "3", 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3"]
