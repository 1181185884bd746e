import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import nn

from sbirlib.encoders.weights import FILES, fetch_weights, put_weights, read_weights, resized
from sbirlib.errors import InputError

REPOSITORY = "timm/resnet18.a1_in1k"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def answer(monkeypatch: pytest.MonkeyPatch, status: int | Exception) -> list[str]:
    """A session of the hub that answers every request so; returns the list of addresses asked for."""
    addresses = []

    def head(url: str, **_: Any) -> SimpleNamespace:
        addresses.append(url)
        if isinstance(status, Exception):
            raise status
        return SimpleNamespace(status_code=status)

    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(head=head))
    return addresses


def test_half_precision_is_cast_up(tmp_path: Path) -> None:
    originals = {"half": torch.randn(3).half(), "brain": torch.randn(3).bfloat16(), "single": torch.randn(3), "count": torch.tensor(7)}
    save_file(originals, tmp_path / "w.safetensors")
    tensors = read_weights(tmp_path / "w.safetensors")
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        "half": torch.float32,
        "brain": torch.float32,
        "single": torch.float32,
        "count": torch.int64,
    }
    assert all(torch.equal(tensors[name], originals[name].to(tensors[name].dtype)) for name in originals)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no weights file .*nowhere.*local safetensors"):
        read_weights(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("kind", ["zip", "legacy", "tar"])
def test_pickles_are_refused_whatever_their_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w.safetensors"
    if kind == "tar":
        with tarfile.open(path, "w") as archive:
            archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO())
    else:
        torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(InputError, match=r"(?s)is a pickle, which can run any code.*save_file\(torch\.load\(.*weights_only=True"):
        read_weights(path)


@pytest.mark.parametrize("start", [b"\x80", b"PK"])
def test_a_whole_file_is_read_whatever_the_length_of_its_header_begins_with(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "w.safetensors"
    for padding in range(8, 0x8000, 8):
        header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).ljust(64 + padding).encode()
        length = len(header).to_bytes(8, "little")
        if length.startswith(start):
            break
    path.write_bytes(length + header + torch.ones(1).numpy().tobytes())
    assert read_weights(path)["w"].tolist() == [1]


@pytest.mark.parametrize("grid", [6, 8, 11])
def test_a_position_embedding_is_resampled_to_the_models_size(grid: int) -> None:
    model = timm.create_model("test_vit", img_size=128, num_classes=0)
    tokens = model.pos_embed.shape[1] - 64  # 8 x 8 patches of 16 pixels
    tensors = {"pos_embed": torch.randn(1, tokens + grid**2, model.embed_dim)}
    expected = resample_abs_pos_embed(tensors["pos_embed"], [8, 8], num_prefix_tokens=tokens)
    assert torch.equal(resized(tensors, model)["pos_embed"], expected)


@pytest.mark.parametrize("shape", [(1, 40, 64), (1, 0, 64), (1, 65, 63), (65, 64)])
def test_a_position_embedding_that_cannot_be_resampled_stays_for_the_error(shape: tuple[int, ...]) -> None:
    tensors = {"pos_embed": torch.randn(*shape)}
    assert resized(tensors, timm.create_model("test_vit", img_size=128, num_classes=0)) is tensors
    assert resized(tensors, nn.Linear(2, 2)) is tensors


@pytest.mark.parametrize("length", [0, 4, 100, -8])
def test_a_truncated_file(tmp_path: Path, length: int) -> None:
    save_file({"a": torch.randn(100)}, tmp_path / "whole.safetensors")
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:length])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_weights(tmp_path / "w.safetensors")


def test_weights_fill_a_model_and_its_classifier_is_dropped() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    tensors = {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    put_weights(model, tensors | {"fc.weight": torch.zeros(5, 2), "fc.bias": torch.zeros(5)}, source="w", dropped=["fc"])
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in tensors.items())


def test_what_does_not_fit_is_named_and_nothing_changes() -> None:
    model = nn.Sequential(*(nn.Linear(3, 2) for _ in range(5)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors = {f"{i}.weight": torch.zeros(2, 4) for i in range(4)} | {"4.weight": torch.zeros(2, 3), "head.weight": torch.zeros(1)}
    with pytest.raises(InputError) as caught:
        put_weights(model, tensors, source="w.safetensors", dropped=["fc"])
    message = str(caught.value)
    assert "4 of another shape: 0.weight (expected [2, 3], found [2, 4]), 1.weight" in message
    assert "5 missing: 0.bias, 1.bias, 2.bias, ..." in message
    assert "1 unexpected: head.weight." in message
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


@pytest.mark.parametrize("file", FILES)
def test_the_cache_comes_first(cache: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    snapshot = cache / "models--timm--resnet18.a1_in1k" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot / file).write_bytes(b"")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0123")
    addresses = answer(monkeypatch, ConnectionError("no network"))
    assert fetch_weights("resnet18", REPOSITORY) == str(snapshot / file)
    assert not addresses


@pytest.mark.parametrize(("status", "requests"), [(404, 2), (503, 1), (ConnectionError("no network"), 1)])
def test_one_request_a_file_finds_out_that_they_cannot_be_had(
    cache: Path, monkeypatch: pytest.MonkeyPatch, status: int | Exception, requests: int
) -> None:
    addresses = answer(monkeypatch, status)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("tried to download"))
    with pytest.raises(
        InputError, match=r"resnet18 are not in the cache.*(none of|503|no network).*weights=FILE.*pretrained=False"
    ) as caught:
        fetch_weights("resnet18", REPOSITORY)
    assert addresses == [huggingface_hub.hf_hub_url(REPOSITORY, file) for file in FILES[:requests]]
    assert f"`hf download {REPOSITORY} --include '*.safetensors' --local-dir weights`" in str(caught.value)
    assert "--set encoder.weights=FILE" in str(caught.value)


def test_the_command_of_the_message_is_one_of_the_hubs_client() -> None:
    words = [str(Path(sys.executable).with_name("hf")), "download", REPOSITORY, "--include", "*.safetensors", "--local-dir", "weights"]
    process = subprocess.run([*words, "--help"], capture_output=True, text=True, check=False)
    assert process.returncode == 0
    assert all(option in process.stdout for option in ("--include", "--local-dir"))


def test_the_weights_of_a_whole_clip_are_fetched_where_there_are_no_others(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def head(url: str, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(status_code=200 if url.endswith(FILES[1]) else 404)

    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(head=head))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repository, file: f"{repository}/{file}")
    assert fetch_weights("clip", REPOSITORY) == f"{REPOSITORY}/open_clip_model.safetensors"


def test_offline_mode_is_honoured(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"(?i)offline.*weights=FILE"):
        fetch_weights("resnet18", REPOSITORY)


def test_a_reachable_hub_is_downloaded_from(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, 200)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repository, file: f"{repository}/{file}")
    assert fetch_weights("resnet18", REPOSITORY) == f"{REPOSITORY}/{FILES[0]}"


def test_a_download_that_breaks_off(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, 200)

    def broken(*_: str) -> str:
        raise OSError("connection reset")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", broken)
    with pytest.raises(InputError, match=r"connection reset.*weights=FILE"):
        fetch_weights("resnet18", REPOSITORY)


def test_a_model_without_published_weights() -> None:
    with pytest.raises(InputError, match=r"no pretrained safetensors weights of mixer_s16_224.*pretrained=False"):
        fetch_weights("mixer_s16_224", None)
