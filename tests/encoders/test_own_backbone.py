"""A module of the caller's as backbone."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from sbirlib.encoders.backbone import Backbone
from sbirlib.errors import InputError
from sbirlib.interfaces import Batch


class Means(nn.Module):
    """Vectors [B, 6] of channel means, from a module with batch norm; `num_features` only where it is set."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.layers(images)
        return vectors


class Fixed(nn.Module):
    """The same tensor for any images."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, images: Tensor) -> Any:
        return self.output


def batch(count: int = 2, size: int = 32) -> Batch:
    labels = torch.zeros(count, dtype=torch.int64)
    return Batch(torch.rand(count, 3, size, size), labels, labels, labels)


def test_its_width_is_that_of_its_output_and_the_probe_leaves_no_trace() -> None:
    module = Means().train()
    module.layers[1].eval()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.get_rng_state()
    encoder = Backbone(backbone=module, dim=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert encoder.dim == encoder.vector_dim == 6
    assert (module.training, module.layers[0].training, module.layers[1].training) == (True, True, False)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_it_is_used_as_it_is_with_images_in_minus_1_to_1() -> None:
    module = Means()
    encoder = Backbone(backbone=module, dim=4).eval()  # pretrained by default, which fetches nothing here
    encoder.load_weights()
    images = batch()
    assert encoder.backbone is module
    torch.testing.assert_close(encoder(images).embedding, encoder.embedding(module(2 * images.images - 1)))


def test_num_features_is_taken_at_its_word() -> None:
    module = Fixed(torch.zeros(2, 9))
    module.num_features = 5  # type: ignore[assignment]
    assert Backbone(backbone=module, dim=0).dim == 5


def test_a_timm_model_keeps_its_own_statistics() -> None:
    model = timm.create_model("test_resnet", num_classes=0)
    encoder = Backbone(backbone=model, dim=0)
    assert encoder.dim == model.num_features
    assert encoder.mean.flatten().tolist() == pytest.approx(model.pretrained_cfg["mean"])


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (nn.Linear(3, 3), {}, r"backbone Linear has no attribute num_features, and fails on images \[2, 3, 64, 64\]"),
        (Fixed(torch.zeros(2, 9, 4, 4)), {}, r"must map images \[B, 3, H, W\] to vectors \[B, C\], and gives \[2, 9, 4, 4\]"),
        (Fixed(torch.zeros(9)), {}, r"gives \[9\]"),
        (Fixed((1, 2)), {}, "gives tuple"),
        (Means(), {"weights": "file", "pooling": "avg"}, "a module of your own, so pooling, weights cannot apply"),
        (Means(), {"timm_options": {"a": 1}}, "so timm_options cannot apply"),
        (3, {}, "backbone = 3: expected a text, or an object of Module"),
    ],
)
def test_a_module_that_does_not_fit_is_refused(module: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Backbone(backbone=module, **options)


def test_the_map_before_pooling_needs_forward_features() -> None:
    with pytest.raises(InputError, match="backbone Means has no method forward_features"):
        Backbone(backbone=Means()).feature_map(torch.rand(1, 3, 32, 32))


def test_a_stage_needs_a_timm_model() -> None:
    with pytest.raises(InputError, match="backbone Means has no stage of stride 8: timm lists no stages of it"):
        Backbone(backbone=Means()).select_stage(8)
    encoder = Backbone(backbone=timm.create_model("test_resnet", num_classes=0))
    encoder.select_stage(8)
    assert encoder.feature_map(batch().images).shape == (2, 48, 4, 4)
