"""Batch norms by modality: each modality's own, from pretrained weights to export."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from tests.processes.launch import run
from torch import Tensor, nn

from sbirlib import build, part
from sbirlib.data.dataset import Dataset
from sbirlib.encoders import backbone as module
from sbirlib.encoders.backbone import Backbone
from sbirlib.encoders.norms import ModalityNorm, images_of
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch
from sbirlib.testing import check_part
from sbirlib.training.gradient_cache import GradientCache

RESNET = "test_resnet"
MODALITY = torch.tensor([PHOTO, SKETCH, SKETCH, PHOTO, SKETCH, PHOTO, PHOTO])


def batch(modality: Tensor = MODALITY) -> Batch:
    images = torch.rand(len(modality), 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Batch(images, modality, torch.arange(len(modality)), torch.arange(len(modality)))


def encoder(norms: Any = "modality", **options: Any) -> Backbone:
    torch.manual_seed(0)
    return Backbone(**{"backbone": RESNET, "pretrained": False, "dim": 8, **options}, norms=norms).double()


def shaken(own: Any) -> Any:
    """The encoder, with other norms for each modality."""
    torch.manual_seed(1)
    with torch.no_grad():
        for norm in own.modules():
            if isinstance(norm, nn.BatchNorm2d):
                for values in (norm.weight, norm.bias, norm.running_mean):
                    assert values is not None
                    values.add_(0.2 * torch.randn_like(values))
    return own


def one_sided(own: Backbone, modality: int) -> Backbone:
    """The same encoder with shared norms: those of one modality."""
    alone, side = encoder("shared"), ("sketch", "photo")[modality]
    state = {n.replace(f".{side}.", "."): v for n, v in own.state_dict().items() if n.replace(f".{side}.", ".") in alone.state_dict()}
    alone.load_state_dict(state)
    return alone


@pytest.mark.parametrize("training", [False, True])
def test_a_mixed_batch_equals_a_network_for_each_modality_alone(training: bool) -> None:
    both = shaken(encoder()).train(training)
    sides = [one_sided(both, modality).train(training) for modality in (SKETCH, PHOTO)]
    inputs = batch()
    embedding = both(inputs).embedding
    for modality, alone in zip((SKETCH, PHOTO), sides, strict=True):
        rows = inputs.modality == modality
        torch.testing.assert_close(embedding[rows], alone(inputs[rows]).embedding)
        for name, value in one_sided(both, modality).state_dict().items():
            torch.testing.assert_close(value, alone.state_dict()[name])
    other = sides[PHOTO](inputs[inputs.modality == SKETCH]).embedding
    assert not torch.allclose(embedding[inputs.modality == SKETCH], other)


def test_they_start_alike() -> None:
    both, shared = encoder().eval(), encoder("shared").eval()
    assert sum(isinstance(each, ModalityNorm) for each in both.modules()) == sum(isinstance(m, nn.BatchNorm2d) for m in shared.modules())
    torch.testing.assert_close(both(batch()).embedding, shared(batch()).embedding)


@pytest.mark.parametrize("modality", [SKETCH, PHOTO])
@pytest.mark.parametrize("training", [False, True])
def test_one_modality_alone_leaves_the_norms_of_the_other(modality: int, training: bool) -> None:
    both = shaken(encoder()).train(training)
    alone, before = one_sided(both, modality).train(training), one_sided(both, 1 - modality).state_dict()
    inputs = batch(torch.full((3,), modality))
    torch.testing.assert_close(both(inputs).embedding, alone(inputs).embedding)
    other = one_sided(both, 1 - modality).state_dict()
    assert all(torch.equal(other[name], value) for name, value in before.items() if ".bn" in name)


def test_norms_of_both_modalities_train() -> None:
    both = encoder().train()
    both(batch()).embedding.square().sum().backward()
    assert all(p.grad is not None for name, p in both.named_parameters() if ".sketch." in name or ".photo." in name)
    assert all(name.startswith(("backbone.", "embedding.")) for name, _ in both.named_parameters()), "rules for a backbone are its norms'"


@pytest.mark.parametrize("by_name", [False, True])
def test_pretrained_weights_are_those_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_name: bool) -> None:
    published = shaken(Backbone(backbone=timm.create_model(RESNET))).backbone.state_dict()
    save_file(published, file := str(tmp_path / "w.safetensors"))
    monkeypatch.setattr(module, "fetch_weights", lambda *_: file)
    both = Backbone(backbone=RESNET, norms="modality") if by_name else Backbone(backbone=RESNET, norms="modality", weights=file)
    both.load_weights()
    for name, value in both.backbone.state_dict().items():
        assert torch.equal(value, published[name.replace(".sketch.", ".").replace(".photo.", ".")])
    again = Backbone(backbone=RESNET, norms="modality")
    again.load_state_dict(both.state_dict())
    assert again.ready


def test_a_copy_has_norms_of_its_own() -> None:
    both = shaken(encoder()).eval()
    twin, before = copy.deepcopy(both), both(batch()).vector
    shaken(both)
    assert torch.equal(twin(batch()).vector, before)


@pytest.mark.parametrize("backbone", [RESNET, "test_efficientnet"])
def test_conditions_of_cse_see_the_order_of_the_batch(backbone: str) -> None:
    torch.manual_seed(0)
    cse = part("encoder", {"name": "cse", "backbone": backbone, "pretrained": False, "dim": 8, "norms": "modality"}).double()
    both, inputs = shaken(cse).eval(), batch()
    for condition in both.conditions.parameters():
        nn.init.normal_(condition, std=0.3)
    whole, maps = both(inputs).embedding, both.feature_map(inputs.images, inputs.modality)
    for i in range(len(inputs)):
        own = inputs[i : i + 1]
        torch.testing.assert_close(both(own).embedding[0], whole[i])
        torch.testing.assert_close(both.feature_map(own.images, own.modality)[0], maps[i])


def test_gradient_caching_is_exact_across_chunks_of_other_modalities() -> None:
    inputs = batch(torch.tensor([SKETCH, SKETCH, SKETCH, PHOTO, PHOTO, SKETCH, PHOTO]))
    whole, cached = shaken(encoder()).eval(), shaken(encoder()).eval()
    whole(inputs).vector.square()[:, ::2].sum().backward()
    cache = GradientCache(cached, cached, inputs, 3)
    cache.features.vector.square()[:, ::2].sum().backward()
    cache.backward()
    for (name, ours), theirs in zip(cached.named_parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


def test_maps_come_through_the_encoder() -> None:
    both, inputs = shaken(encoder()).eval(), batch()
    maps = both.feature_map(inputs.images, inputs.modality)
    torch.testing.assert_close(both.embedding(maps.mean((2, 3))), both(inputs).embedding)
    with pytest.raises(InputError, match=r"call feature_map\(images, modality\)"):
        both.feature_map(inputs.images)
    with pytest.raises(InputError, match="inside a call of their encoder"):
        both.backbone(inputs.images)
    with images_of(inputs.modality[:2]), pytest.raises(InputError, match="one map for each image"):
        both.backbone(inputs.images)


@pytest.mark.parametrize("option", [{"norms": "modality"}, {"recalibrate": True}])
def test_a_backbone_without_batch_norms_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="test_vit has no batch norms, to which alone norms and recalibrate apply"):
        Backbone(backbone="test_vit", pretrained=False, **option)


def test_a_norm_that_is_used_twice_stays_one() -> None:
    norm = nn.BatchNorm2d(3)
    own = Backbone(backbone=nn.Sequential(norm, nn.ReLU(), norm, nn.AdaptiveAvgPool2d(1), nn.Flatten()), dim=0, norms="modality")
    assert own.backbone[0] is own.backbone[2]  # type: ignore[index]
    assert sum(isinstance(each, ModalityNorm) for each in own.modules()) == 1


def test_a_compiled_backbone_is_left_out(dataset: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    own = {"name": "backbone", "backbone": RESNET, "pretrained": False, "dim": 8, "norms": "modality"}
    settings = {"losses": ["cross_entropy"], "transform": {"size": 32}, "sampler": {"categories": 3, "per_modality": 2}}
    build(encoder=own, compile=True, phases=[{"steps": 1}], **settings).fit(dataset, progress=False)
    assert "compile is left out: Backbone has batch norms by modality" in caplog.text


@pytest.mark.parametrize("name", ["backbone", "cse"])
def test_it_conforms(name: str) -> None:
    check_part("encoder", name, options={"backbone": RESNET, "pretrained": False, "dim": 8, "norms": "modality", "recalibrate": True})


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """With recalibrated norms of each modality; some shares of a batch are of one modality alone."""
    results = []
    for count in (1, 2):
        process = run(count, "-m", "tests.encoders.processes", str(tmp_path / f"{count}.pt"))
        assert process.returncode == 0, process.stderr[-5000:]
        results.append(torch.load(tmp_path / f"{count}.pt", weights_only=True))
    one, two = results
    assert two["alone"], "no share of one modality alone: another seed is needed"
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-6)
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-5, atol=1e-6)
