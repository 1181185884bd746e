import copy
import os
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from sbirlib.encoders import backbone as module
from sbirlib.encoders.backbone import Backbone
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Wrapper

RESNET = "test_resnet"  # timm's own tiny models


def batch(count: int = 4, size: int = 32, seed: int = 0) -> Batch:
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(count)
    return Batch(images, torch.tensor([SKETCH, PHOTO] * count)[:count], labels, labels)


def untrained(backbone: str = RESNET, **options: Any) -> Backbone:
    torch.manual_seed(0)
    return Backbone(backbone=backbone, pretrained=False, **options).eval()


def published(tmp_path: Path, change: dict[str, Tensor] | None = None) -> tuple[Path, dict[str, Tensor]]:
    """A weights file as timm publishes it, in float16 and with a classifier, and its tensors."""
    tensors = {name: tensor.half() for name, tensor in timm.create_model(RESNET).state_dict().items()}
    save_file(tensors | (change or {}), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors", tensors


def test_the_embedding_is_linear_in_the_pooled_features_of_normalised_images() -> None:
    encoder, inputs = untrained(dim=16), batch()
    cfg = encoder.backbone.pretrained_cfg
    assert isinstance(cfg, dict)
    normalised = torch.stack([(inputs.images[:, c] - cfg["mean"][c]) / cfg["std"][c] for c in range(3)], dim=1)
    weight, bias = (encoder.embedding.get_parameter(name) for name in ("weight", "bias"))
    expected = encoder.backbone(normalised) @ weight.T + bias
    features = encoder(inputs)
    torch.testing.assert_close(features.embedding, expected)
    torch.testing.assert_close(features.vector, F.normalize(expected))
    assert (encoder.dim, encoder.vector_dim, features.embedding.shape) == (16, 16, (4, 16))
    assert torch.equal(features.category, inputs.category)


@pytest.mark.parametrize("backbone", [RESNET, "test_efficientnet", "test_vit", "test_convnext", "mobilenetv3_small_050"])
def test_without_dim_the_width_is_the_models_own(backbone: str) -> None:
    encoder = untrained(backbone, dim=0)
    assert encoder(batch(2)).embedding.shape == (2, encoder.dim)
    assert Backbone(backbone=backbone, pretrained=False, dim=8)(batch(2)).embedding.shape == (2, 8)


def test_the_backbone_is_timms_module() -> None:
    encoder = untrained()
    assert type(encoder.backbone) is type(timm.create_model(RESNET))
    assert encoder.backbone.state_dict().keys() == timm.create_model(RESNET, num_classes=0).state_dict().keys()
    assert encoder.state_dict().keys() == {f"backbone.{k}" for k in encoder.backbone.state_dict()} | {"embedding.weight", "embedding.bias"}


def test_given_statistics() -> None:
    images = batch().images
    torch.testing.assert_close(untrained(mean=0.5, std=0.5).prepare(images), images * 2 - 1)
    expected = (images - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / 0.25
    torch.testing.assert_close(untrained(mean=[0.1, 0.2, 0.3], std=0.25).prepare(images), expected)


def test_a_model_of_one_size_resizes() -> None:
    images, fixed = batch(2, 64).images, {"dynamic_img_size": False}
    expected = F.interpolate(images, (160, 160), mode="bilinear", antialias=True)
    torch.testing.assert_close(untrained("test_vit", mean=0, std=1, timm_options=fixed).prepare(images), expected)
    assert untrained("test_vit", timm_options=fixed | {"img_size": 96}).prepare(images).shape == (2, 3, 96, 96)
    assert untrained("test_vit").prepare(images).shape == (2, 3, 64, 64)
    assert untrained().prepare(images).shape == (2, 3, 64, 64)


def test_the_feature_map_is_not_pooled() -> None:
    encoder, images = untrained(dim=0), batch(2, 64).images
    assert encoder.feature_map(images).shape == (2, encoder.dim, 2, 2)
    torch.testing.assert_close(encoder.feature_map(images).mean((2, 3)), encoder.backbone(encoder.prepare(images)))
    assert untrained("mobilenetv2_050", output_stride=16).feature_map(images).shape[2:] == (4, 4)


@pytest.mark.parametrize(
    ("backbone", "options", "stride", "path"),
    [
        (RESNET, {}, 4, "layer1"),
        (RESNET, {}, 16, "layer3"),
        (RESNET, {"output_stride": 16}, 16, "layer4"),
        ("mobilenetv2_050", {}, 16, "blocks.4"),
        ("mobilenetv3_small_050", {}, 8, "blocks.1"),
        ("test_convnext", {}, 8, "stages.1"),
    ],
)
def test_a_stage_is_the_last_of_its_stride(backbone: str, options: dict[str, Any], stride: int, path: str) -> None:
    encoder, inputs = untrained(backbone, dim=8, **options), batch(2, 64)
    outputs: list[Tensor] = []
    hook = encoder.backbone.get_submodule(path).register_forward_hook(lambda _, __, output: outputs.append(output))
    encoder.backbone(encoder.prepare(inputs.images))
    hook.remove()
    encoder.select_stage(stride)
    features = encoder.feature_map(inputs.images)
    torch.testing.assert_close(features, outputs[0])
    assert features.shape[2:] == (64 // stride, 64 // stride)
    torch.testing.assert_close(encoder(inputs).embedding, encoder.embedding(features.mean((2, 3))))
    assert encoder.dim == encoder.vector_dim == 8


def test_the_last_stage_is_the_map_of_a_model_without_a_layer_after_it() -> None:
    images, encoder = batch(2, 64).images, untrained(dim=0)
    expected = encoder.feature_map(images)
    encoder.select_stage(32)
    torch.testing.assert_close(encoder.feature_map(images), expected)
    encoder.select_stage(16)
    assert encoder.dim == encoder.vector_dim == encoder.feature_map(images).shape[1] == 192


def test_layers_after_the_stage_run_for_hooks_alone() -> None:
    encoder, images, calls = untrained(), batch(2, 64).images, list[str]()
    encoder.select_stage(16)
    encoder.backbone.get_submodule("layer4").register_forward_pre_hook(lambda *_: calls.append("layer4"))
    encoder.feature_map(images)
    assert not calls
    encoder.backbone.get_submodule("layer4").register_forward_hook(lambda *_: None)
    encoder.feature_map(images)
    assert calls == ["layer4"]


def test_a_stride_without_a_stage_is_refused() -> None:
    with pytest.raises(InputError, match="test_resnet has no stage of stride 3: its stages have strides 2, 4, 8, 16, 32; choose one"):
        untrained().select_stage(3)


def test_pooling() -> None:
    encoder, images = untrained(pooling="max"), batch(2, 64).images
    torch.testing.assert_close(encoder.backbone(encoder.prepare(images)), encoder.feature_map(images).amax((2, 3)))


def test_row_i_of_a_batch_is_a_batch_of_one() -> None:
    encoder, inputs = untrained(), batch()
    whole = encoder(inputs).vector
    for i in range(len(inputs)):
        torch.testing.assert_close(encoder(inputs[i : i + 1]).vector[0], whole[i], atol=1e-5, rtol=1e-5)


def test_double_precision_stays_and_half_is_promoted() -> None:
    assert untrained().double()(batch()).embedding.dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert untrained()(batch()).embedding.dtype == torch.float32


def test_weights_from_a_file(tmp_path: Path) -> None:
    path, tensors = published(tmp_path)
    encoder = Backbone(backbone=RESNET, weights=str(path)).eval()
    with pytest.raises(InputError, match=r"pretrained weights of test_resnet are not loaded.*load_weights\(\)"):
        encoder(batch())
    encoder.load_weights()
    state = encoder.backbone.state_dict()
    assert all(torch.equal(state[name], tensors[name].to(state[name].dtype)) for name in state)
    with torch.no_grad():
        next(encoder.backbone.parameters()).zero_()
    encoder.load_weights()
    assert not next(encoder.backbone.parameters()).any(), "loading again must not undo training"
    assert torch.isfinite(encoder(batch()).vector).all()


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    path, _ = published(tmp_path, {"conv1.0.weight": torch.zeros(2)})
    encoder = Backbone(backbone=RESNET, weights=str(path))
    with pytest.raises(InputError, match=r"1 of another shape: conv1\.0\.weight \(expected \[.*found \[2\]\)"):
        encoder.load_weights()
    with pytest.raises(InputError, match="not loaded"):
        encoder(batch())


def as_clip(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A vision transformer's state under the names of OpenAI's CLIP, with its projection and a tensor of the text tower."""
    names = [("patch_embed.proj", "conv1"), ("blocks.", "transformer.resblocks."), ("norm_pre", "ln_pre"), ("qkv.", "in_proj_")]
    names += [("attn.proj", "attn.out_proj"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"), (".norm", ".ln_")]
    renamed = {"visual.proj": torch.randn(64, 1000), "token_embedding.weight": torch.randn(9, 5)}
    for name, tensor in state.items():
        own, value = name, tensor
        for ours, theirs in names:
            own = own.replace(ours, theirs)
        own = re.sub(r"^norm\.", "ln_post.", own)
        if name == "cls_token":
            own, value = "class_embedding", tensor[0, 0]
        if name == "pos_embed":
            own, value = "positional_embedding", tensor[0]
        renamed[f"visual.{own}"] = value.clone()
    return renamed


@pytest.mark.parametrize("by_name", [False, True])
def test_the_image_tower_of_a_whole_clip_is_taken_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_name: bool) -> None:
    options: dict[str, Any] = {"backbone": "test_vit.r160_in1k", "dim": 0, "timm_options": {"pre_norm": True}}
    original = Backbone(**options, pretrained=False)
    file = str(tmp_path / "open_clip_model.safetensors")
    save_file(as_clip(original.backbone.state_dict()), file)
    monkeypatch.setattr(module, "fetch_weights", lambda *_: file)
    encoder = Backbone(**options) if by_name else Backbone(**options, weights=file)
    encoder.load_weights()
    state = encoder.backbone.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in original.backbone.state_dict().items())


def test_weights_of_no_such_model_are_named_by_their_own_names(tmp_path: Path) -> None:
    save_file({"visual.trunk.stem": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"not those of this model: .*1 unexpected: visual\.trunk\.stem"):
        Backbone(backbone=RESNET, weights=str(tmp_path / "w.safetensors")).load_weights()


def test_weights_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tensors = published(tmp_path)
    monkeypatch.setattr(module, "fetch_weights", lambda model, repository: str(path))
    encoder = Backbone(backbone=RESNET)
    encoder.load_weights()
    state = encoder.backbone.state_dict()
    assert all(torch.equal(state[name], tensors[name].to(state[name].dtype)) for name in state)


@pytest.mark.parametrize("nested", [False, True])
def test_loading_a_state_fetches_nothing(monkeypatch: pytest.MonkeyPatch, nested: bool) -> None:
    monkeypatch.setattr(module, "fetch_weights", lambda *_: pytest.fail("fetched"))
    trained, fresh = untrained(), Backbone(backbone=RESNET).eval()
    if nested:
        Wrapper(fresh).load_state_dict(Wrapper(trained).state_dict())
    else:
        fresh.load_state_dict(trained.state_dict())
    fresh.load_weights()
    assert torch.equal(fresh(batch()).vector, trained(batch()).vector)


def test_a_state_of_the_embedding_alone_is_not_enough() -> None:
    encoder = Backbone(backbone=RESNET)
    encoder.load_state_dict({k: v for k, v in encoder.state_dict().items() if k.startswith("embedding")}, strict=False)
    with pytest.raises(InputError, match="not loaded"):
        encoder(batch())


def test_a_copy_is_whole() -> None:
    encoder = untrained()
    assert torch.equal(copy.deepcopy(encoder)(batch()).vector, encoder(batch()).vector)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet81"}, r"no model 'resnet81'; nearest: .*resnet18"),
        ({"backbone": "hf-hub:timm/resnet18"}, "no model 'hf-hub:timm/resnet18'"),
        ({"backbone": "resnet18.a2_in1k_"}, r"nearest: resnet18\.a2_in1k"),
        ({"timm_options": {"pad_typo": "same"}}, "timm refuses backbone='test_resnet' with options.*pad_typo"),
        ({"pooling": "nope"}, "global_pool.*nope"),
        ({"backbone": "test_vit", "output_stride": 16}, "output_stride"),
        ({"timm_options": {"global_pool": "max"}}, "give pooling= instead"),
        ({"timm_options": {"pretrained": True}}, "'pretrained', which the encoder sets itself"),
        ({"dim": -1}, "dim = -1: expected a whole number of at least 0"),
        ({"mean": [0.5, 0.5]}, r"mean = \[0.5, 0.5\]: expected a number, or a list, each item a number, 3 in all, or none"),
        ({"std": 0.0}, "std = 0.0: expected a number above 0"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Backbone(**{"backbone": RESNET, "pretrained": False, **options})


@pytest.mark.parametrize("images", [torch.zeros(2, 1, 32, 32), torch.zeros(3, 32, 32), torch.zeros(2, 3, 32, 32, dtype=torch.uint8)])
def test_images_of_another_kind_are_refused(images: Tensor) -> None:
    with pytest.raises(InputError, match=r"images \[B, 3, H, W\] in \[0, 1\] were expected, got"):
        untrained().prepare(images)


@pytest.mark.skipif("SBIRLIB_DATA" not in os.environ, reason="SBIRLIB_DATA names no folder with the shared weights")
def test_the_shared_weights() -> None:
    file = Path(os.environ["SBIRLIB_DATA"]) / "weights" / "mobilenetv2_100_int8dequant_fp16.safetensors"
    encoder = Backbone(backbone="mobilenetv2_100", dim=0, weights=str(file), mean=0.5, std=0.5, timm_options={"pad_type": "same"}).eval()
    encoder.load_weights()
    vectors = encoder(batch(4, 96)).vector
    assert vectors.shape == (4, 1280)
    assert torch.isfinite(vectors).all()
    assert len(torch.unique(vectors.detach(), dim=0)) == 4
