"""Adapters: each begins as its encoder, trains alone, and leaves the encoder's weights as they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sbirlib import InputError, build
from sbirlib.interfaces import Batch, Encoder
from sbirlib.pipeline import Pipeline
from sbirlib.spec import part
from sbirlib.testing.world import batch, separable

RESNET = {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 8}
EFFICIENT = {"name": "backbone", "backbone": "tf_efficientnet_lite0", "pretrained": False, "dim": 8}
VIT = {"name": "backbone", "backbone": "vit_tiny_patch16_224", "pretrained": False, "dim": 8, "timm_options": {"img_size": 64}}
ADAPTED = [
    ({"name": "lora", "rank": 2}, RESNET),
    ({"name": "lora", "rank": 2, "alpha": 4.0}, EFFICIENT),
    ({"name": "lora", "rank": 2, "targets": ["blocks.*.qkv", "blocks.*.proj"]}, VIT),
    ({"name": "bottleneck", "width": 4}, RESNET),
    ({"name": "bottleneck", "width": 4, "targets": ["blocks.[56]"]}, EFFICIENT),
    ({"name": "bottleneck", "width": 4, "targets": ["blocks.*.mlp"]}, VIT),
    ({"name": "prompt", "count": 0}, VIT),
]


def encoder_of(table: dict[str, Any], inner: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return part("encoder", {**table, "encoder": inner})


def moved(encoder: Encoder) -> Encoder:
    """The encoder with every new parameter away from zero."""
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if not name.startswith("encoder."):
                parameter.add_(0.05 * torch.randn_like(parameter))
    return encoder


@pytest.mark.parametrize(("table", "inner"), ADAPTED)
def test_at_first_it_is_the_encoder_bit_for_bit(table: dict[str, Any], inner: dict[str, Any]) -> None:
    adapted, images = encoder_of(table, inner).eval(), batch()
    with torch.no_grad():
        for call in ("query_vectors", "gallery_vectors"):
            assert torch.equal(getattr(adapted, call)(images), getattr(adapted.encoder, call)(images))
        assert torch.equal(adapted(images).embedding, adapted.encoder(images).embedding)
        if table.get("count") != 0:
            assert not torch.allclose(moved(adapted)(images).embedding, adapted.encoder(images).embedding, atol=1e-4)


@pytest.mark.parametrize("inner", [RESNET, EFFICIENT, VIT])
def test_lora_merged_is_lora(inner: dict[str, Any]) -> None:
    lora: Any = moved(encoder_of({"name": "lora", "rank": 3, "alpha": 2.0}, inner)).eval()
    images = batch()
    before = {name: value.clone() for name, value in lora.state_dict().items()}
    with torch.no_grad():
        merged = lora.merged()(images).embedding
        torch.testing.assert_close(merged, lora(images).embedding, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(merged, lora.encoder(images).embedding, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in lora.state_dict().items())


def test_lora_of_a_linear_layer_is_the_equation() -> None:
    lora: Any = moved(encoder_of({"name": "lora", "rank": 2, "alpha": 3.0, "targets": ["blocks.0.mlp.fc1"]}, VIT))
    (site,), (adapter,) = lora.sites, lora.adapters
    layer, x = lora.encoder.get_submodule(site), torch.randn(5, 192)
    a, b = adapter.down.weight, adapter.up.weight
    expected = layer(x) + 3.0 / 2 * (b @ (a @ x.T)).T
    torch.testing.assert_close(adapter(x, layer(x)), expected)
    assert a.shape == (2, 192)


def test_prompts_of_a_modality_are_its_own_and_pooling_does_not_see_them() -> None:
    prompted = encoder_of({"name": "prompt", "count": 3}, VIT).eval()
    images = batch()
    swapped = Batch(images.images, 1 - images.modality, images.category, images.instance)
    with torch.no_grad():
        prompted.prompts.mul_(50)
        one, other = prompted(images).embedding, prompted(swapped).embedding
        assert not torch.allclose(one, other, atol=1e-4)
        tokens = []
        with (
            prompted.prompted(images.modality),
            prompted.encoder.backbone.norm.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0].shape[1])),
        ):
            prompted.encoder(images)
    assert tokens == [1 + 16]


def small(table: dict[str, Any], inner: dict[str, Any]) -> Pipeline:
    rules = [{"of": "encoder.encoder.backbone", "frozen": True}]
    phase = {"steps": 4, "optimizer": {"lr": 1e-2}, "parameters": rules}
    return build(
        encoder={**table, "encoder": inner},
        losses=["cross_entropy"],
        phases=[phase],
        transform={"size": 64},
        sampler={"categories": 3, "per_modality": 2},
    )


@pytest.mark.parametrize(("table", "inner"), [*ADAPTED[:-1], ({"name": "prompt", "count": 2}, VIT)])
def test_training_moves_the_adapter_alone(table: dict[str, Any], inner: dict[str, Any]) -> None:
    pipeline = small(table, inner)
    before = {name: value.clone() for name, value in pipeline.encoder.state_dict().items()}
    pipeline.fit(separable(), progress=False)
    same = {name: torch.equal(value, before[name]) for name, value in pipeline.encoder.state_dict().items()}
    frozen = [name for name in same if name.startswith("encoder.backbone.")]
    assert all(same[name] for name in frozen), "buffers of norms included"
    new = [name for name in same if name.startswith(("adapters.", "prompts"))]
    assert not all(same[name] for name in new)  # some: timm's residual blocks begin as zero, and have no gradient within


@pytest.mark.parametrize(
    ("table", "inner", "message"),
    [
        (
            {"name": "lora", "targets": ["layer9*"]},
            RESNET,
            r"no linear layer or convolution without groups of the backbone is named 'layer9\*'",
        ),
        ({"name": "lora", "targets": []}, RESNET, "targets"),
        ({"name": "lora", "rank": 0}, RESNET, "rank = 0"),
        ({"name": "lora"}, {"name": "query_head", "encoder": RESNET, "width": 8}, None),
        ({"name": "bottleneck", "targets": ["fc9"]}, RESNET, "no module of the backbone is named 'fc9'"),
        ({"name": "bottleneck", "targets": ["global_pool"]}, RESNET, r"backbone.global_pool gives no map \[B, C, H, W\]"),
        ({"name": "prompt"}, RESNET, "one backbone that is a vision transformer"),
    ],
)
def test_a_wrong_target_is_named(table: dict[str, Any], inner: dict[str, Any], message: str | None) -> None:
    if message is None:
        assert encoder_of(table, inner).sites  # the backbone of an encoder inside the encoder
        return
    with pytest.raises(InputError, match=message):
        encoder_of(table, inner)
