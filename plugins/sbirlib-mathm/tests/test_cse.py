import copy
import inspect
from pathlib import Path
from typing import Any, get_args

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sbirlib.encoders.backbone import Backbone
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch
from sbirlib_mathm.cse import Condition, Cse, Gate, Shift

RESNET: dict[str, Any] = {"backbone": "test_resnet"}  # timm's own tiny models
SERESNET: dict[str, Any] = RESNET | {"timm_options": {"block_args": {"attn_layer": "se"}, "zero_init_last": False}}
MODELS = {
    "seresnet": SERESNET,
    "efficientnet": {"backbone": "test_efficientnet"},
    "mobilenetv3": {"backbone": "mobilenetv3_small_050"},
    "mobilenetv2": {"backbone": "mobilenetv2_035"},
    "resnet": RESNET,
    "vit": {"backbone": "test_vit"},
}
every_model = pytest.mark.parametrize("model", MODELS)
every_condition = pytest.mark.parametrize("condition", get_args(Condition))


def batch(modality: list[int]) -> Batch:
    count = len(modality)
    images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.tensor(modality), torch.arange(count), torch.arange(count))


MIXED = [SKETCH, PHOTO, PHOTO, SKETCH]


def encoder(model: str = "seresnet", *, kind: type[Backbone] = Cse, **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(**{"dim": 16, "pretrained": False} | MODELS[model] | options).eval()


def trained(model: str = "seresnet", **options: Any) -> Any:
    """An encoder whose conditions have left zero."""
    cse = encoder(model, **options)
    for parameter in cse.conditions.parameters():
        nn.init.normal_(parameter, std=0.5)
    return cse


def test_se_resnet50_is_conditioned_in_each_of_its_sixteen_blocks() -> None:
    """The backbone of the paper, whole: at the start it is the bare one, and a condition that has left zero tells modalities apart."""
    options: dict[str, Any] = {"backbone": "seresnet50", "dim": 16, "pretrained": False, "timm_options": {"zero_init_last": False}}
    torch.manual_seed(0)
    cse = Cse(**options).eval()
    bare = Backbone(**options).eval()
    bare.load_state_dict({k: v for k, v in cse.state_dict().items() if not k.startswith("conditions.")})
    assert len(cse.conditions) == 16
    images = batch([SKETCH]).images.repeat(2, 1, 1, 1)
    inputs = Batch(images, torch.tensor([SKETCH, PHOTO]), torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    with torch.no_grad():
        assert torch.equal(cse(inputs).embedding, bare(inputs).embedding)
        nn.init.normal_(next(cse.conditions.parameters()), std=0.5)
        sketch, photo = cse(inputs).embedding
    assert not torch.allclose(sketch, photo)


@every_model
@every_condition
def test_at_the_start_it_is_the_bare_backbone_bit_for_bit(model: str, condition: str) -> None:
    bare, cse, inputs = encoder(model, kind=Backbone), encoder(model, condition=condition), batch(MIXED)
    assert torch.equal(cse(inputs).embedding, bare(inputs).embedding)
    assert torch.equal(cse.feature_map(inputs.images, inputs.modality), bare.feature_map(inputs.images))
    assert cse.backbone.state_dict().keys() == bare.backbone.state_dict().keys()
    assert cse.state_dict().keys() - bare.state_dict().keys() == {f"conditions.{k}" for k in cse.conditions.state_dict()}


@pytest.mark.parametrize(
    ("model", "kind"), [("seresnet", Shift), ("efficientnet", Shift), ("mobilenetv3", Shift), ("mobilenetv2", Gate), ("vit", Gate)]
)
def test_gates_are_added_only_where_there_are_none(model: str, kind: type[nn.Module]) -> None:
    cse = encoder(model)
    assert all(isinstance(condition, kind) for condition in cse.conditions)
    if kind is Shift:
        modules = [n for n, module in cse.backbone.named_modules() if n.endswith(".se") and not isinstance(module, nn.Identity)]
        assert [site.rpartition(".")[0] for site in cse.sites] == modules


@every_model
@every_condition
def test_after_a_few_steps_the_tag_changes_the_embedding(model: str, condition: str) -> None:
    cse, inputs = encoder(model, condition=condition, dim=0), batch(MIXED)
    optimizer = torch.optim.Adam(cse.conditions.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        cse(inputs).vector[:, 0].sum().backward()
        optimizer.step()
    assert all(parameter.any() for parameter in cse.conditions.parameters())
    photos, sketches = cse(batch([PHOTO] * 4)).vector, cse(batch([SKETCH] * 4)).vector
    assert (photos - sketches).abs().amax(1).min() > 1e-6
    mixed = cse(inputs).vector
    torch.testing.assert_close(mixed, torch.where(inputs.modality[:, None] == PHOTO, photos, sketches), atol=1e-5, rtol=1e-5)


@every_model
def test_row_i_of_a_batch_is_a_batch_of_one(model: str) -> None:
    cse, inputs = trained(model), batch(MIXED)
    whole = cse(inputs).vector
    for i in range(len(inputs)):
        torch.testing.assert_close(cse(inputs[i : i + 1]).vector[0], whole[i], atol=1e-5, rtol=1e-5)


def literal(module: nn.Module, x: Tensor, modality: Tensor, v: Tensor, condition: str) -> Tensor:
    """timm's squeeze-excitation of x [B, C, H, W], image by image, with the tag where METHODS puts it."""
    w1, b1, w2, b2 = (getattr(getattr(module, name), kind).flatten(1) if kind == "weight" else getattr(module, name).bias
                      for name in ("fc1", "fc2") for kind in ("weight", "bias"))  # fmt: skip
    rows = []
    for image, tag in zip(x, modality.to(x.dtype), strict=True):
        squeezed = image.mean((1, 2))
        if condition == "concatenate":
            squeezed, matrix = torch.cat([squeezed, tag[None]]), torch.cat([w1, v], dim=1)
            logit = w2 @ torch.relu(matrix @ squeezed + b1) + b2
        else:
            logit = w2 @ torch.relu(w1 @ squeezed + b1) + b2 + v[:, 0] * tag
        rows.append(image * torch.sigmoid(logit)[:, None, None])
    return torch.stack(rows)


@every_condition
def test_squeeze_excitation_against_its_equation(condition: str) -> None:
    cse, inputs = trained(condition=condition).double(), batch(MIXED)
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    for site in cse.sites:
        module = cse.backbone.get_submodule(site.rpartition(".")[0])
        module.register_forward_hook(lambda module, inputs, output: calls.append((module, inputs[0], output.clone())))
    cse(inputs)
    assert len(calls) == len(cse.conditions)
    for (module, x, output), shift in zip(calls, cse.conditions, strict=True):
        torch.testing.assert_close(output, literal(module, x, inputs.modality, shift.weight, condition))


@every_condition
@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NLC"])
def test_a_gate_against_its_equation(condition: str, layout: str) -> None:
    torch.manual_seed(0)
    gate = Gate(6, reduction=2, condition=condition, channels_last=layout == "NHWC").double()  # type: ignore[arg-type]
    for parameter in gate.parameters():
        nn.init.normal_(parameter)
    x, modality = torch.randn(4, 6, 3, 5, dtype=torch.float64, requires_grad=True), torch.tensor(MIXED)
    w1, b1, w2, b2, v = gate.reduce.weight, gate.reduce.bias, gate.expand.weight, gate.expand.bias, gate.tag.weight[:, 0]
    rows = []
    for image, tag in zip(x, modality, strict=True):
        hidden = w1 @ image.mean((1, 2)) + b1 + (v * tag if condition == "concatenate" else 0)
        logit = w2 @ torch.relu(hidden) + b2 + (v * tag if condition == "add" else 0)
        rows.append(image * 2 * torch.sigmoid(logit)[:, None, None])
    expected = torch.stack(rows)
    tag = modality[:, None].double()
    if layout == "NHWC":
        back = gate(x.permute(0, 2, 3, 1), tag).permute(0, 3, 1, 2)
    elif layout == "NLC":
        back = gate(x.flatten(2).mT, tag).mT.reshape(x.shape)
    else:
        back = gate(x, tag)
    torch.testing.assert_close(back, expected)
    wanted = [x, *gate.parameters()]
    upstream = torch.randn_like(expected)
    for value, right in zip(
        torch.autograd.grad((back * upstream).sum(), wanted), torch.autograd.grad((expected * upstream).sum(), wanted), strict=True
    ):
        torch.testing.assert_close(value, right)


def test_the_backbone_keeps_no_hook_even_after_an_error() -> None:
    cse = encoder()
    cse(batch(MIXED))
    with pytest.raises(InputError):
        cse.feature_map(torch.zeros(1, 1, 8, 8), torch.zeros(1))
    assert not any(module._forward_hooks for module in cse.backbone.modules())


def test_a_copy_has_conditions_of_its_own() -> None:
    cse = trained()
    twin, before = copy.deepcopy(cse), cse(batch(MIXED)).vector
    nn.init.zeros_(cse.conditions[0].weight)
    assert torch.equal(twin(batch(MIXED)).vector, before)


def test_half_precision_stays_half_within() -> None:
    cse, inputs = trained("resnet"), batch(MIXED)
    with torch.autocast("cpu", torch.bfloat16):
        assert cse.feature_map(inputs.images, inputs.modality).dtype == torch.bfloat16


def test_it_has_every_option_of_the_backbone() -> None:
    ours, theirs = (inspect.signature(kind).parameters for kind in (Cse, Backbone))
    assert list(ours) == [*theirs, "condition", "reduction"]
    assert {n for n in theirs if ours[n].default != theirs[n].default} == {"backbone"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition": "added"}, "condition = 'added': expected one of .*; did you mean 'add'"),
        ({"reduction": 0}, "reduction = 0: expected a whole number of at least 1"),
        ({"backbone": "resnet81"}, "no model 'resnet81'"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder("resnet", **options)


def test_a_model_without_stages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sbirlib_mathm.cse.gates", lambda *_: {})
    with pytest.raises(InputError, match="test_resnet has no squeeze-excitation and names no stages"):
        encoder("resnet")


class Staged(nn.Module):
    """A module of the caller's, with one stage that `feature_info` names."""

    def __init__(self, info: Any) -> None:
        super().__init__()
        self.stage, self.head = nn.Conv2d(3, 8, 3, stride=4), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if info is not None:
            self.feature_info = info

    def forward(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.head(self.stage(images))
        return vectors


def test_a_module_of_your_own_is_conditioned_after_its_stages() -> None:
    cse = Cse(backbone=Staged([{"module": "stage", "num_chs": 8}]), dim=0)
    images, modality = torch.rand(2, 3, 32, 32), torch.tensor([SKETCH, PHOTO])
    bare = cse(batch := Batch(images, modality, modality, modality)).embedding
    nn.init.ones_(cse.conditions[0].tag.weight)  # type: ignore[arg-type, union-attr]
    changed = cse(batch).embedding
    assert torch.equal(changed[0], bare[0])
    assert not torch.equal(changed[1], bare[1])


@pytest.mark.parametrize("info", [None, ["stage"], "stage"])
def test_a_module_of_your_own_without_stages_is_refused(info: Any) -> None:
    with pytest.raises(InputError, match="Staged has no squeeze-excitation and names no stages in feature_info"):
        Cse(backbone=Staged(info))


def test_a_stage_that_the_model_never_calls_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sbirlib_mathm.cse.gates", lambda *_: {"fc": Shift(8)})
    cse = encoder("resnet")
    with pytest.raises(InputError, match="test_resnet never calls fc, so cse cannot condition it"):
        cse.feature_map(torch.zeros(1, 3, 32, 32), torch.zeros(1))


def test_a_feature_map_needs_the_modality() -> None:
    with pytest.raises(InputError, match=r"call feature_map\(images, modality\)"):
        encoder().feature_map(torch.zeros(1, 3, 32, 32))


def test_a_feature_map_goes_through_the_norms_of_its_modality() -> None:
    cse, images = encoder("resnet", norms="modality"), batch([PHOTO, PHOTO]).images
    before = cse.feature_map(images, torch.tensor([PHOTO, SKETCH]))
    nn.init.zeros_(cse.backbone.get_submodule("bn1.sketch").weight)
    after = cse.feature_map(images, torch.tensor([PHOTO, SKETCH]))
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])


def test_the_embedding_starts_from_the_classifier_as_the_bare_backbones_does(tmp_path: Path) -> None:
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "w.safetensors")
    options: dict[str, Any] = {"pretrained": True, "weights": str(tmp_path / "w.safetensors"), "start": "svd"}
    cse, bare, inputs = encoder("resnet", **options), encoder("resnet", kind=Backbone, **options), batch(MIXED)
    random = bare.embedding.weight.clone()
    for model in (cse, bare):
        model.load_weights()
    assert not torch.equal(bare.embedding.weight, random)
    assert torch.equal(cse(inputs).embedding, bare(inputs).embedding)
