"""Division of weights among processes: which blocks, and what is refused before an image is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.training.test_run import small_pipeline
from torch import nn

from sbirlib.data.dataset import Dataset
from sbirlib.encoders.backbone import Backbone
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoder
from sbirlib.training import sharding
from sbirlib.training.plan import plan_training
from sbirlib.training.sharding import Shards, places


def backbone(name: str = "test_resnet", **options: Any) -> Backbone:
    return Backbone(backbone=name, dim=8, pretrained=False, **options)


def refusal(encoder: Encoder, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, processes: int = 2, **changes: Any) -> str:
    """The message with which a plan of divided weights is refused; images cannot be read."""
    monkeypatch.setattr(Dataset, "read", lambda *_: pytest.fail("an image was read"))
    pipeline = small_pipeline(encoder, 2, **changes)
    pipeline.plan(dataset)
    monkeypatch.setattr(sharding, "world_size", lambda: processes)
    with pytest.raises(InputError) as error:
        plan_training(pipeline.model, pipeline.recipe, dataset.train, shard=True)
    return str(error.value)


def test_what_cannot_be_divided_is_refused(fresh: Callable[[], Encoder], dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    hooked = backbone()
    hooked.backbone.get_submodule("layer1.0.conv1").register_forward_hook(lambda *_: None)
    reptile = {"phases.0.optimizer": {"name": "reptile", "every": 2}}
    for message, encoder, more in (
        ("there is one process: start several with torchrun", backbone(), {"processes": 1}),
        ("TinyEncoder has no backbone with a sequence of blocks", fresh(), {}),
        ("Backbone acts inside its backbone by permanent hooks", hooked, {}),
        ("Backbone recalibrates batch norms", backbone(recalibrate=True), {}),
        ("the optimizer Reptile may read parameters as a whole: take adam, adamw or sgd", backbone(), reptile),
    ):
        with monkeypatch.context() as patch:
            text = refusal(encoder, dataset, patch, **more)
        assert text.startswith("shard=True (--shard) divides the weights of the encoder among processes, and cannot here: ")
        assert message in text
        assert ";" not in text, "nothing else"


@pytest.mark.parametrize(("name", "count", "share"), [("test_resnet", 9, 0.99), ("resnet18", 8, 0.99), ("vit_tiny_patch16_224", 12, 0.9)])
def test_blocks_are_the_outermost_items_of_sequences(name: str, count: int, share: float) -> None:
    encoder = backbone(name)
    blocks = [place.whole for place in places(encoder)]
    assert len(blocks) == count
    inside = [parameter for block in blocks for parameter in block.parameters()]
    assert len(set(inside)) == len(inside), "each in one block"
    assert sum(p.numel() for p in inside) > share * sum(p.numel() for p in encoder.backbone.parameters())
    assert all(isinstance(place.parent, nn.Sequential) and getattr(place.parent, place.name) is place.whole for place in places(encoder))


def test_without_places_nothing_changes() -> None:
    encoder = backbone()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with Shards((), torch.device("cpu")).whole():
        torch.testing.assert_close(encoder.state_dict(), before, rtol=0, atol=0)
