"""Pipeline: building, saving, warm starts, interpolation, classification and search."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from sbirlib import Pipeline, build, load, open_index, split
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoded, Evaluator, Features, Loss, Miner, Step, Triplets

SMALL: dict[str, Any] = {
    "encoder": {"backbone": "resnet10t", "dim": 8, "pretrained": False},
    "transform": {"size": 32},
    "sampler": {"categories": 3, "per_modality": 2},
    "phases": [{"steps": 2, "parameters": []}],
}


@pytest.fixture
def trained(dataset: Dataset) -> Pipeline:
    return build("mathm", **SMALL).fit(split(dataset, ["class4", "class5"]), progress=False)


def test_a_recipe_builds_without_network_or_weights_and_encodes_nothing_without_them() -> None:
    pipeline = build("mathm")
    assert not pipeline.losses
    with pytest.raises(InputError, match="weights of seresnet50 are not loaded"):
        pipeline.encoder.query_vectors(_batch(64))


def test_building_leaves_the_random_stream_alone_and_is_the_same_each_time() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = build("mathm", **SMALL)
    assert torch.equal(torch.rand(3), expected)
    assert _same(first.encoder, build("mathm", **SMALL).encoder)
    assert not _same(first.encoder, build("mathm", **SMALL, seed=1).encoder)


def test_the_repr_makes_the_pipeline() -> None:
    pipeline = build("mathm", **SMALL)
    assert repr(build("mathm")) == "build('mathm')"
    again = eval(repr(pipeline), {"build": build})
    assert again.recipe == pipeline.recipe
    composed = build(encoder={"name": "backbone", "backbone": "resnet10t"}, losses=["cross_entropy"])
    assert eval(repr(composed), {"build": build}).recipe == composed.recipe


def test_a_list_of_losses_replaces_the_recipes_own() -> None:
    recipe = build("mathm", losses=["norm_softmax", "pml:MultiSimilarityLoss"], **{**SMALL, "phases": [{"steps": 2}]}).recipe
    assert list(recipe.losses) == ["norm_softmax", "pml:MultiSimilarityLoss"]
    assert recipe.phases[0].weights == {"norm_softmax": 1.0, "pml:MultiSimilarityLoss": 1.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encodr": "cse"}, "recipe has no option 'encodr'; did you mean 'encoder'"),
        ({"encoder": {"backbon": "x"}}, "encoder 'cse' has no option 'backbon'; did you mean 'backbone'"),
        ({"encoder": {"backbone": "resnet81"}}, "timm has no model 'resnet81'"),
        ({"evaluators": {"category": {"metrics": ["mAP@al"]}}}, "mAP@al"),
        ({"phases.3.steps": 2}, "phases has 1 entries"),
    ],
)
def test_mistakes_are_named_before_anything_slow(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build("mathm", **changes)


class Nearest(Miner):
    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        row = torch.arange(len(features))
        return {"mine": Triplets(row, row, distances.argmax(1))}


class Halves(Loss):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, step: Step) -> Tensor:
        return (step.features.embedding * self.scale).square().mean()


class Count(Evaluator):
    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        return {"gallery_left_out": float(len(gallery))}


def test_objects_are_components_too_and_are_handed_over_again(dataset: Dataset, tmp_path: Path) -> None:
    file, objects = tmp_path / "m.safetensors", {"miner": Nearest(), "evaluators": {"count": Count()}}
    changes = {
        "losses": {"cross_entropy": {}, "balanced_triplet": {}, "halves": Halves()},
        "phases": [{"steps": 2, "weights": {}, "parameters": []}],
    }
    pipeline = build("mathm", **objects, **{**SMALL, **changes}).fit(dataset, progress=False)
    assert isinstance(pipeline.model.miner, Nearest)
    assert pipeline.evaluate(dataset, progress=False)["gallery_left_out"] == len(dataset.photos)
    pipeline.save(file)
    with pytest.raises(InputError, match="miner was handed over as an object of Nearest: hand it over again") as raised:
        load(file)
    assert "losses.halves was handed over as an object of Halves" in str(raised.value)
    assert "evaluators.count was handed over as an object of Count" in str(raised.value)
    again = load(file, miner=Nearest(), losses={"halves": Halves()}, **{"evaluators.count": Count()})
    assert torch.equal(again.model.get_parameter("losses.halves.scale"), pipeline.model.get_parameter("losses.halves.scale"))
    assert again.categories == pipeline.categories
    with pytest.raises(InputError, match="'sampler' was no object in this recipe"):
        load(file, sampler=Nearest())


@pytest.mark.parametrize(
    ("kind", "value"), [("miner", 3), ("miner", Halves()), ("encoder", torch.nn.Linear(2, 2)), ("sampler", [3]), ("evaluators", {"x": 3})]
)
def test_an_object_of_another_kind_is_refused(kind: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"{kind}.* = .*: expected a"):
        build("mathm", **{kind: value})


class Greedy(Loss):
    needs = frozenset({"gates"})

    def forward(self, step: Step) -> Tensor:
        return step.features.embedding.sum()


def test_a_loss_that_lacks_what_it_needs_is_refused_before_training(dataset: Dataset) -> None:
    phases = [{"steps": 1, "parameters": []}]
    with pytest.raises(InputError, match="'Greedy' needs 'gates', which nothing here provides"):
        build("mathm", losses=[Greedy()], **{**SMALL, "phases": phases}).fit(dataset, progress=False)
    composed = {**SMALL, "encoder": {"name": "backbone", "backbone": "resnet10t", "dim": 8, "pretrained": False}, "phases": phases}
    with pytest.raises(InputError, match="'triplet' needs 'triplets'.*give the recipe a miner"):
        build(losses=["triplet"], **{**composed, "transform": "sbir", "sampler": "balanced"}).fit(dataset, progress=False)
    with pytest.raises(InputError, match="dim is 9, but the embedding it reads has 8"):
        build("mathm", losses={"cross_entropy": {"dim": 9}}, **SMALL).fit(dataset, progress=False)


def test_saved_and_exported_pipelines_give_the_same_vectors(trained: Pipeline, dataset: Dataset, tmp_path: Path) -> None:
    trained.save(tmp_path / "whole.safetensors")
    trained.export(tmp_path / "encoder.safetensors")
    expected = trained.encode_images(dataset.photos, progress=False)
    whole, exported = load(tmp_path / "whole.safetensors"), load(tmp_path / "encoder.safetensors")
    assert torch.equal(whole.encode_images(dataset.photos, progress=False), expected)
    assert torch.equal(exported.encode_images(dataset.photos, progress=False), expected)
    assert list(whole.losses) == ["cross_entropy", "balanced_triplet"]
    assert not exported.losses
    assert exported.recipe == trained.recipe
    assert whole.categories == trained.categories
    assert len(whole.categories) == 3


def test_training_starts_from_a_module_of_another_model(trained: Pipeline, dataset: Dataset, tmp_path: Path) -> None:
    trained.export(tmp_path / "model.safetensors")
    fresh = build("mathm", **SMALL, seed=1).warm_start(tmp_path / "model.safetensors", "encoder.backbone")
    assert _same(fresh.encoder.get_submodule("backbone"), trained.encoder.get_submodule("backbone"))
    assert not _same(fresh.encoder, trained.encoder)
    assert _same(build("mathm", **SMALL, seed=1).warm_start(tmp_path / "model.safetensors").encoder, trained.encoder)
    around = build("mathm", **SMALL, seed=1).warm_start(tmp_path / "model.safetensors", "encoder.backbone.layer1:encoder.backbone.layer1")
    assert _same(around.encoder.get_submodule("backbone.layer1"), trained.encoder.get_submodule("backbone.layer1"))
    with pytest.raises(InputError, match="does not fit this model's"):
        fresh.warm_start(tmp_path / "model.safetensors", "encoder.backbone:encoder.embedding")
    with pytest.raises(InputError, match="this model has no module 'encoder.backbon'; did you mean 'encoder.backbone'"):
        fresh.warm_start(tmp_path / "model.safetensors", "encoder.backbon")
    other = build("mathm", **SMALL | {"encoder": SMALL["encoder"] | {"dim": 16}})
    with pytest.raises(InputError, match="does not fit this model's"):
        other.warm_start(tmp_path / "model.safetensors")


def test_pretrained_weights_do_not_take_the_place_of_a_warm_start(trained: Pipeline, tmp_path: Path) -> None:
    """They are loaded before a layer of their encoder is, and not again when training begins."""
    trained.export(tmp_path / "model.safetensors")
    pretrained = build("mathm", **SMALL, seed=3).encoder.get_submodule("backbone").state_dict()
    save_file({name: tensor.contiguous() for name, tensor in pretrained.items()}, tmp_path / "weights.safetensors")
    encoder = SMALL["encoder"] | {"weights": str(tmp_path / "weights.safetensors")}
    fresh = build("mathm", **SMALL | {"encoder": encoder}).warm_start(tmp_path / "model.safetensors", "encoder.backbone.layer1")
    fresh.model.load_weights()  # as `fit` does
    assert _same(fresh.encoder.get_submodule("backbone.layer1"), trained.encoder.get_submodule("backbone.layer1"))
    assert torch.equal(fresh.encoder.get_parameter("backbone.conv1.0.weight"), pretrained["conv1.0.weight"])


def test_weights_between_two_models(trained: Pipeline) -> None:
    other = build("mathm", **SMALL, seed=1)
    own, theirs, batch = trained.encoder.state_dict(), other.encoder.state_dict(), _batch(32)
    expected = {name: 0.7 * value + 0.3 * theirs[name] for name, value in own.items() if value.is_floating_point()}
    others = {name: value.clone() for name, value in own.items() if not name.startswith("backbone.")}
    trained.interpolate(other, 0.3, "encoder.backbone")
    weights = trained.encoder.state_dict()
    for name in expected:
        torch.testing.assert_close(weights[name], expected[name] if name.startswith("backbone.") else others[name])
    other.encoder.eval()
    trained.interpolate(other, 1.0)
    torch.testing.assert_close(trained.encoder.query_vectors(batch), other.encoder.query_vectors(batch), rtol=0, atol=0)
    with pytest.raises(InputError, match="share = 1.5: expected a number from 0 to 1"):
        trained.interpolate(other, 1.5)
    with pytest.raises(InputError, match="differ in encoder"):
        trained.interpolate(build("mathm", **SMALL | {"encoder": SMALL["encoder"] | {"dim": 16}}), 0.5)
    with pytest.raises(InputError, match="this model has no module 'encoder.backbon'; did you mean 'encoder.backbone'"):
        trained.interpolate(other, 0.5, "encoder.backbon")


def test_classifying(trained: Pipeline, dataset: Dataset) -> None:
    answers = trained.classify([dataset.sketches.read(0), dataset.sketches.read(7)], k=2)
    assert [len(a) for a in answers] == [2, 2]
    assert answers[0][0][1] >= answers[0][1][1] > 0
    assert {name for a in answers for name, _ in a} <= set(trained.categories)
    with pytest.raises(InputError, match="classifier"):
        build("mathm", **SMALL).classify([dataset.sketches.read(0)])


def test_searching(trained: Pipeline, dataset: Dataset, tmp_path: Path) -> None:
    index = trained.index(dataset, progress=False)
    hits = index.search(dataset.sketches.read(0), k=3)
    assert [h.rank for h in hits] == [1, 2, 3]
    assert hits[0].score >= hits[1].score
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(6):
        dataset.photos.read(i).save(photos / f"{i}.png")
    index = trained.index(photos, progress=False)
    index.save(tmp_path / "index")
    index.save(tmp_path / "index")
    opened = open_index(tmp_path / "index")
    sketch = tmp_path / "drawn.png"
    dataset.sketches.read(3).save(sketch)
    assert opened.search(sketch, k=10) == index.search(sketch, k=10)
    assert len(opened.search(sketch, k=10)) == 6
    assert Path(opened.search(sketch, k=1)[0].path).parent == photos
    assert opened.grid([sketch], ["moon"]).width > 300


def test_an_index_that_is_none_is_refused(trained: Pipeline, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not an index"):
        open_index(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="is there and is not an index"):
        trained.index(dataset, progress=False).save(tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_evaluating_nothing_is_refused(trained: Pipeline, dataset: Dataset) -> None:
    with pytest.raises(InputError, match="no validation images"):
        trained.evaluate(dataset, split="validation")
    with pytest.raises(InputError, match="no GPU|cuda"):
        trained.evaluate(dataset, device="cuda:9")


def test_a_file_that_does_not_fit_its_recipe_is_refused(trained: Pipeline, tmp_path: Path) -> None:
    from sbirlib.training import checkpoint

    trained.export(tmp_path / "m.safetensors")
    tensors, about = checkpoint.read(tmp_path / "m.safetensors")
    tensors.pop("encoder.embedding.weight")
    checkpoint.write(tmp_path / "broken.safetensors", tensors, about)
    with pytest.raises(InputError, match="does not fit the recipe it carries"):
        load(tmp_path / "broken.safetensors")


def _same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def _batch(size: int) -> Any:
    from sbirlib.interfaces import Batch

    return Batch(torch.rand(2, 3, size, size), *(torch.zeros(2, dtype=torch.int64) for _ in range(3)))


def test_images_may_be_paths_or_pictures(trained: Pipeline, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "a.png")
    vectors = trained.encode_images([tmp_path / "a.png", Image.new("RGB", (20, 20), "red")], progress=False)
    assert torch.equal(vectors[0], vectors[1])
