"""Search without training: recipes in the place of models, in Python and on the command line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from tests.terminal import run

from sbirlib import build, load, open_index
from sbirlib.data.dataset import Dataset
from sbirlib.encoders import backbone
from sbirlib.errors import InputError
from sbirlib.recipe import Recipe
from sbirlib.recipe_file import read
from sbirlib.testing.world import batch

TOWER = {"encoder.backbone": "test_resnet", "transform.size": 32}
RANDOM = {**TOWER, "encoder.pretrained": False}
BARE: dict[str, Any] = {"encoder": {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 0}}


def words(settings: dict[str, Any]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture
def photos(dataset: Dataset, tmp_path: Path) -> Path:
    """Photos at any depth, without labels."""
    for i in range(6):
        place = tmp_path / "photos" / ("deep/down/here" if i % 2 else "")
        place.mkdir(parents=True, exist_ok=True)
        dataset.photos.read(i).save(place / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of weights of the small tower."""
    state: dict[str, torch.Tensor] = build({**BARE, "phases": []}, seed=3).encoder.get_submodule("backbone").state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_a_recipe_without_phases_is_complete_and_without_losses() -> None:
    recipe = Recipe.of({**BARE, "phases": []})
    assert (recipe.phases, recipe.losses) == ((), {})
    assert Recipe.of(json.loads(json.dumps(recipe.tables()))).digest == recipe.digest
    assert Recipe.of({**BARE, "losses": ["cross_entropy"]}).phases[0].steps == 1000
    assert Recipe.of({**BARE, "losses": ["cross_entropy"], "phases": []}).phases[0].steps == 1000
    for tables in (BARE, {**BARE, "phases": None}, {**BARE, "phases": [{"steps": 3}]}):
        with pytest.raises(InputError, match=r"needs at least one loss.*or no phases \(phases=\[\]\)"):
            Recipe.of(tables)


def test_clip_is_the_tower_that_openai_published() -> None:
    recipe = Recipe.of(read("clip"))
    assert recipe.encoder.options["backbone"] == "vit_base_patch32_clip_quickgelu_224.openai"
    assert not recipe.transform.options["flip"]
    encoder: Any = load("clip").encoder
    assert (encoder.dim, encoder.size) == (768, (224, 224))
    assert type(encoder.backbone.blocks[0].mlp.act).__name__ == "QuickGELU"
    torch.testing.assert_close(encoder.mean.flatten(), torch.tensor([0.48145466, 0.4578275, 0.40821073]))


@pytest.mark.parametrize("name", ["clip", "siglip2", "dinov2", "dinov3"])
def test_a_tower_has_the_size_and_the_normalisation_that_it_was_published_with(name: str) -> None:
    tables = Recipe.of(read(name)).tables()
    published = timm.get_pretrained_cfg(tables["encoder"]["backbone"])
    options = {**(tables["encoder"]["timm_options"] or {}), "depth": 1}  # one of twelve blocks
    encoder: Any = build(name, **{"encoder.pretrained": False, "encoder.timm_options": options}).encoder.eval()
    size = tables["transform"]["size"]
    assert encoder.size in ((size, size), None)  # none: DINOv3 takes any size
    assert size in (published.input_size[1], options.get("img_size"))
    torch.testing.assert_close(encoder.mean.flatten(), torch.tensor(published.mean))
    torch.testing.assert_close(encoder.std.flatten(), torch.tensor(published.std))
    vectors = encoder.gallery_vectors(batch(size=size, categories=1, instances=1))
    assert vectors.shape == (2, 768)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("name", ["clip", "siglip2", "dinov2", "dinov3"])
def test_a_file_of_a_towers_weights_is_taken_as_timm_takes_the_published_one(name: str, tmp_path: Path) -> None:
    table = Recipe.of(read(name)).tables()["encoder"]
    options = {**(table["timm_options"] or {}), "depth": 1}
    published, file = timm.create_model(table["backbone"], depth=1, num_classes=0), tmp_path / "w.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in published.state_dict().items()}, file)
    overlay = {"file": str(file), "custom_load": False}
    expected = timm.create_model(table["backbone"], pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0, **options).state_dict()
    encoder: Any = build(name, **{"encoder.weights": str(file), "encoder.timm_options": options}).encoder
    encoder.load_weights()
    assert encoder.backbone.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in encoder.backbone.state_dict().items())


def test_nothing_to_train_is_said_and_a_phase_can_be_added(dataset: Dataset) -> None:
    with pytest.raises(InputError, match=r"clip has no phases, so there is nothing to train: .*--set losses=cross_entropy") as caught:
        build("clip", **RANDOM).fit(dataset)
    assert "phases=[{'steps': 1000}]" in str(caught.value)
    trained = build("clip", **RANDOM, losses=["cross_entropy"], phases=[{"steps": 2}], sampler={"categories": 2, "per_modality": 2})
    trained.fit(dataset, progress=False, tensorboard=False, device="cpu")
    assert set(trained.losses) == {"cross_entropy"}


def test_load_takes_a_name_a_toml_file_and_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nphases = []\nencoder = {name = "backbone", backbone = "test_resnet", pretrained = false, dim = 0}\n')
    assert load(file).recipe.name == load(str(file)).recipe.name == "mine"
    assert load("clip", **RANDOM).encoder.dim == load("clip@sbirlib", **RANDOM).encoder.dim == 96
    assert caplog.text == ""
    load("mathm", **{"encoder.pretrained": False, "encoder.backbone": "resnet10t"})
    assert "the recipe mathm has phases to train, and none was" in caplog.text
    with pytest.raises(InputError, match="'clipp' is neither the file of a model nor a recipe; did you mean 'clip'"):
        load("clipp")
    with pytest.raises(InputError, match=r"there is no file 'clip\.safetensors'"):
        load("clip.safetensors")


def test_a_models_file_of_a_recipes_name_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build({**BARE, "phases": [], "name": "mine"}).export("clip")
    assert load("clip").recipe.name == "mine"


def test_two_commands_make_photos_searchable_and_their_index_is_whole(
    photos: Path, weights: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The index needs neither the file of weights nor a network."""
    settings = words({**TOWER, "encoder.weights": weights, "exhaustive": 7})
    monkeypatch.setattr(backbone, "fetch_weights", lambda *_: pytest.fail("fetched"))
    assert run(monkeypatch, "index", "clip", str(photos), "--out", str(tmp_path / "index"), "--kind", "hnsw", *settings) == 0
    weights.unlink()
    dataset.photos.read(1).save(tmp_path / "sketch.png")
    capsys.readouterr()
    assert run(monkeypatch, "search", str(tmp_path / "sketch.png"), "--index", str(tmp_path / "index"), "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["hits"]) == 6
    opened: Any = open_index(tmp_path / "index")
    assert opened.index.exhaustive == 7
    assert opened.transform.size == 32
    model = next((tmp_path / "index").glob("model-*"))
    assert run(monkeypatch, "index", str(model), str(photos), "--out", str(tmp_path / "again"), "--set", "transform.size=64") == 2
    assert "is no recipe but a saved model" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_vectors_are_encoded_by_a_recipe(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "encode", "clip", str(photos), "--out", str(tmp_path / "vectors"), *words(RANDOM)) == 0
    command = capsys.readouterr().out.partition("index them: sbirlib ")[2].split()
    assert run(monkeypatch, *command[:-1], str(tmp_path / "index")) == 0
    assert len(open_index(tmp_path / "index")) == 6


def test_weights_that_cannot_be_had_name_the_way(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert run(monkeypatch, "index", "clip", str(photos), "--out", str(tmp_path / "index")) == 2
    error = capsys.readouterr().err
    assert "hf download timm/vit_base_patch32_clip_224.openai" in error
    assert "--set encoder.weights=FILE" in error
    assert not (tmp_path / "index").exists()


def test_photos_of_the_kind_of_a_sketch_are_found_untrained(data_folder: Path) -> None:
    """An ImageNet backbone knows cannons: of 25 hits at least 8, where one photo in ten is of them."""
    places = sorted((data_folder / "qdphoto" / "photo").iterdir())[:10]
    weights = data_folder / "weights" / "tf_efficientnet_lite0_fp16.safetensors"
    pipeline = load("clip", **{"encoder.backbone": "tf_efficientnet_lite0", "encoder.weights": str(weights), "transform.size": 128})
    index = pipeline.index([photo for place in places for photo in sorted(place.iterdir())[:6]], progress=False)
    sketches = sorted((data_folder / "qdphoto" / "sketch" / "cannon").iterdir())[:5]
    names = [Path(hit.path).parent.name for hits in index.search_all(sketches, k=5) for hit in hits]
    assert names.count("cannon") >= 8


def test_the_recipe_of_the_page_on_search_is_complete(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "retrieval.md").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(re.findall(r"^```toml\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)[0])
    recipe = Recipe.of(read(str(tmp_path / "mine.toml")))
    assert recipe.phases == ()
    assert timm.is_model_pretrained(str(recipe.encoder.options["backbone"]))
    assert timm.get_pretrained_cfg(recipe.encoder.options["backbone"]).input_size[-1] == recipe.transform.options["size"]
