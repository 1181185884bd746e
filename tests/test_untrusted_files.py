"""Bounds of files that a stranger may have written: no path out of a folder, no code but installed plugins, no memory beyond their size."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sbirlib import build, folder, load, sealed
from sbirlib.data.images import open_image
from sbirlib.data.layout import from_manifest
from sbirlib.errors import InputError, printable, without_secrets
from sbirlib.files import atomic_write
from sbirlib.retrieval.indexes.milvus import SERVER, TOKEN, Milvus
from sbirlib.training import checkpoint
from sbirlib.training.allocation import limited_to

TINY: dict[str, Any] = {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 8}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    build(encoder=TINY, losses=["cross_entropy"]).export(path)
    return path


def changed(model: Path, **recipe: Any) -> Path:
    """The model with other recipe keys, and its digest written anew."""
    tensors, about = checkpoint.read(model)
    checkpoint.write(model, tensors, {**about, "recipe": {**about["recipe"], **recipe}})
    return model


@pytest.mark.parametrize(
    "path", ["../outside.png", "photo/../../outside.png", "/etc/hostname", "..\\outside.png", "photo/x\x00.png", "a" * 5000]
)
def test_a_manifest_names_nothing_outside_its_folder(path: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "photo").mkdir(parents=True)
    for place in (tmp_path / "outside.png", root / "photo" / "a.png"):
        Image.new("RGB", (8, 8)).save(place)
    (root / "manifest.csv").write_text(f"path,modality,class,instance_id\nphoto/a.png,photo,cat,\n{path},photo,cat,\n")
    with pytest.raises(InputError, match=r"manifest.csv, line 3: .*(leads out of|does not exist)"):
        from_manifest(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"path,modality,class\n", "lacks the column instance_id"),
        (b"", "lacks the columns path, modality, class, instance_id"),
        (b"path,modality,class,instance_id,path\n", "the column 'path' twice"),
        (b"path,modality,class,instance_id\na,photo,cat\n", "line 2: 3 values for 4 columns"),
        (b"path,modality,class,instance_id\na,photo,cat,,,\n", "line 2: 6 values for 4 columns"),
        (b"path,modality,class,instance_id\n\xff,photo,cat,\n", "line 2: the byte 0xff is no UTF-8"),
        (b'path,modality,class,instance_id\n"' + b"x" * 200_000 + b'",photo,cat,\n', "field larger than field limit"),
    ],
)
def test_a_damaged_manifest_is_named(text: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(text)
    with pytest.raises(InputError, match=f"manifest.csv.*{message}"):
        folder(tmp_path)


@pytest.mark.parametrize(
    "recipe",
    [
        {"encoder": {"name": "os:system"}},
        {"encoder": {"name": "sbirlib.encoders.backbone:Backbone"}},
        {"encoder": {"name": "backbone", "backbone": "hf-hub:someone/model"}},
        {"encoder": {**TINY, "timm_options": {"checkpoint_path": "/tmp/x"}}},
        {"losses": {"pml": {"name": "pml:__class__"}}},
        {"losses": {"pml": {"name": "pml:BaseMetricLossFunction"}}},
        {"miner": {"name": "../x"}},
    ],
)
def test_metadata_name_no_code_but_installed_components(recipe: dict[str, Any], model: Path) -> None:
    with pytest.raises(InputError, match="unknown|has no|may not set|cannot be used"):
        load(changed(model, **recipe))


def test_loading_says_which_distributions_it_uses(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("sbirlib_mathm")
    with caplog.at_level("INFO", logger="sbirlib"):
        load(model)
        assert not caplog.text
        load(changed(model, miner={"name": "modality_hard"}))
    assert "m.safetensors uses sbirlib-mathm" in caplog.text


@pytest.mark.parametrize(
    "encoder",
    [
        {**TINY, "dim": 2_000_000_000},
        {**TINY, "dim": 30_000_000},
        {**TINY, "backbone": "vit_huge_patch14_224"},
        {**TINY, "timm_options": {"layers": [20_000, 2, 2, 2]}},
    ],
)
def test_a_recipe_that_asks_for_more_than_its_file_explains_is_refused_before_memory_is_taken(encoder: dict[str, Any], model: Path) -> None:
    path = changed(model, encoder=encoder)
    command = f"""
import resource, sys, time
from sbirlib import InputError, load
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.monotonic()
try:
    load({str(path)!r})
except InputError as error:
    print(error)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, time.monotonic() - start)
"""
    lines = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    assert lines
    assert any(word in " ".join(lines[:-1]) for word in ("asks for a model of many more", "cannot be made", "does not fit"))
    mebibytes, seconds = map(float, lines[-1].split())
    assert mebibytes < 1500
    assert seconds < 60


def _header(path: Path, change: Any) -> None:
    """Change the header of a safetensors file, whose tensors stay."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


NAME = "encoder.embedding.bias"
HEADERS: dict[str, Any] = {
    "beyond the end": lambda h: h[NAME].update(shape=[2**40], data_offsets=[0, 2**42]),
    "a shape that overflows": lambda h: h[NAME].update(shape=[2**33, 2**33]),
    "overlapping": lambda h: h[NAME].update(data_offsets=[0, 32]),
    "sparse": lambda h: h.pop(NAME),
    "backwards": lambda h: h[NAME].update(data_offsets=[64, 32]),
    "below zero": lambda h: h[NAME].update(data_offsets=[-32, 0]),
    "of no type": lambda h: h[NAME].update(dtype="F99"),
    "deep": lambda h: h.update(x={"y": {"z": {}}}),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_does_not_add_up_is_refused(name: str, model: Path) -> None:
    _header(model, HEADERS[name])
    with pytest.raises(InputError, match="m.safetensors"):
        load(model)
    with pytest.raises(InputError, match="m.safetensors"):
        sealed.read(model)


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**62, 2**64 - 1])
def test_a_header_of_any_length_takes_no_memory(length: int, model: Path) -> None:
    model.write_bytes(length.to_bytes(8, "little") + model.read_bytes()[8:])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="m.safetensors"):
        load(model)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_temporary_file_is_not_redirected_by_a_link(tmp_path: Path) -> None:
    target, outside = tmp_path / "shared" / "model.safetensors", tmp_path / "outside"
    target.parent.mkdir()
    outside.mkdir()
    names = [f".{target.name}.{os.getpid()}.partial", f".{target.name}.{os.getpid()}.aaaaaaaa.partial", f".{target.name}.1.partial"]
    for name in names:
        (target.parent / name).symlink_to(outside)
    target.symlink_to(outside / "victim")
    sealed.write(target, {"x": torch.ones(2)}, {})
    assert not list(outside.iterdir())
    assert not target.is_symlink()
    with atomic_write(target) as partial:
        assert partial.resolve().is_relative_to(target.parent.resolve())
        assert partial.parent.stat().st_mode & 0o777 == 0o700
        partial.write_text("x")


def test_a_token_reaches_no_message_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "s3cret-token")
    monkeypatch.setenv("HF_TOKEN", "hf_s3cret")
    assert without_secrets("Bearer s3cret-token, hf_s3cret") == "Bearer ***, ***"
    index = Milvus(uri="http://127.0.0.1:1")
    with pytest.raises(InputError) as raised:
        _ = index.client
    assert "s3cret" not in str(raised.value)
    for uri in ("http://root:s3cret@127.0.0.1:1", "https://s3cret@host"):
        with pytest.raises(InputError, match="password") as raised:
            Milvus(uri=uri)
        assert "s3cret" not in str(raised.value)


def test_a_token_goes_to_no_server_that_a_file_alone_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "s3cret-token")
    state = {"files": [], "options": {"uri": "http://127.0.0.1:1"}}
    with pytest.raises(
        InputError, match=f"names the server http://127.0.0.1:1; if you trust it with the token in {TOKEN}, set {SERVER}="
    ) as raised:
        Milvus.read(tmp_path, state)
    assert "s3cret" not in str(raised.value)
    monkeypatch.setenv(SERVER, "http://127.0.0.1:1")
    with pytest.raises(InputError, match="no Milvus can be opened"):
        Milvus.read(tmp_path, state)


@pytest.mark.parametrize(
    "uri",
    [
        "http://[::1",
        "a\0.db",
        "x" * 5000 + ".db",
        "http:\\\\127.0.0.1:1@x://",
        "ftp://host",
        "http://",
        "file:///etc/x.db",
        "http://h:99999",
    ],
)
def test_an_address_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match="uri=|password"):
        Milvus(uri=uri)


def test_milvus_fills_no_folder_that_it_has_not_made(tmp_path: Path) -> None:
    (tmp_path / "mine.db").mkdir()
    with pytest.raises(InputError, match="which is gone"):
        Milvus.read(tmp_path, {"files": [], "options": {"uri": str(tmp_path / "mine.db")}})
    assert not list((tmp_path / "mine.db").iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(InputError, match="is no regular file, but a folder, a pipe or a device"):
        open_image(tmp_path / "a.png")


def test_control_characters_reach_no_terminal() -> None:
    assert printable("a\x1b]0;t\x07\nü") == "a\\x1b]0;t\\x07\\nü"
    assert printable("a\nb\r", lines=True) == "a\nb\\r"


@pytest.mark.parametrize("size", [2049, 10**18])
def test_an_image_as_large_as_no_encoder_takes_is_refused(size: int, model: Path) -> None:
    with pytest.raises(InputError, match="transform.size"):
        load(changed(model, transform={"name": "sbir", "size": size}))


def test_numbers_that_are_not_finite_are_refused_inside_tables() -> None:
    with pytest.raises(InputError, match="timm_options"):
        build(encoder={**TINY, "timm_options": {"drop_rate": float("inf")}}, losses=["cross_entropy"])


def test_a_bound_on_memory_lets_every_kind_of_tensor_be_made() -> None:
    with limited_to({"x": torch.ones(3)}, "here"):
        table = torch.eye(4).to_sparse()
        assert (table @ torch.ones(4, 2)).sum() == 8
        assert torch.ones(1000, 1000)[::2].contiguous().shape == (500, 1000)
    with pytest.raises(InputError, match="here holds 12 bytes"), limited_to({"x": torch.ones(3)}, "here"):
        torch.empty(2**40)
    with pytest.raises(InputError, match="here holds 12 bytes"), limited_to({"x": torch.ones(3)}, "here"):
        torch.ones(2**14).repeat(2**13)
