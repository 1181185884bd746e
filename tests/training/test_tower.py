"""Export without the tower: its size, the same vectors, and towers that are others, absent or trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sbirlib import InputError, build, load
from sbirlib.cli import main
from sbirlib.pipeline import Pipeline
from sbirlib.spec import part
from sbirlib.testing.world import separable
from sbirlib.training import checkpoint

NETWORK = {"name": "backbone", "backbone": "test_vit", "dim": 8}
FROZEN = [{"of": "encoder.encoder.backbone", "frozen": True}]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    file = tmp_path / "tower.safetensors"
    save_file(part("encoder", {**NETWORK, "pretrained": False}).backbone.state_dict(), file)
    return file


def trained(encoder: dict[str, Any], parameters: list[dict[str, Any]]) -> Pipeline:
    phases = [{"steps": 3, "optimizer": {"lr": 1e-2}, "parameters": parameters}]
    sampler = {"categories": 3, "per_modality": 2}
    pipeline = build(encoder=encoder, losses=["cross_entropy"], phases=phases, transform={"size": 64}, sampler=sampler)
    return pipeline.fit(separable(), progress=False)


def vectors(pipeline: Pipeline) -> torch.Tensor:
    return pipeline.encode_images(separable(), progress=False)


@pytest.mark.parametrize("adapter", [{"name": "lora", "rank": 2}, {"name": "bottleneck", "width": 2}, {"name": "projection", "dim": 8}])
def test_an_adapter_is_its_own_weights_and_the_digest_of_its_tower(adapter: dict[str, Any], weights: Path, tmp_path: Path) -> None:
    pipeline = trained({**adapter, "encoder": {**NETWORK, "weights": str(weights)}}, FROZEN)
    whole, light = tmp_path / "whole.safetensors", tmp_path / "light.safetensors"
    pipeline.export(whole)
    pipeline.export(light, whole=False)
    assert light.stat().st_size < whole.stat().st_size - weights.stat().st_size / 2
    rest = [name for name in checkpoint.read(light)[0] if name.startswith("encoder.encoder.backbone.")]
    assert rest == ["encoder.encoder.backbone.pos_embed"], "which is resampled, maybe otherwise on another machine"
    assert torch.equal(vectors(load(light)), vectors(load(whole)))
    assert load(light).encoder_digest() == load(whole).encoder_digest()


def test_what_training_changed_of_the_tower_is_in_the_file(weights: Path, tmp_path: Path) -> None:
    parameters = [*FROZEN, {"of": "encoder.encoder.backbone", "only": "norms", "frozen": False}]
    encoder = {"name": "centred", "encoder": {**NETWORK, "weights": str(weights)}}
    pipeline, light = trained(encoder, parameters), tmp_path / "light.safetensors"
    pipeline.export(light, whole=False)
    names = [name for name in checkpoint.read(light)[0] if name.startswith("encoder.encoder.backbone.")]
    assert names
    assert all("norm" in name or name.endswith("pos_embed") for name in names)
    assert torch.equal(vectors(load(light)), vectors(pipeline))


def test_the_towers_file_may_lie_elsewhere_and_must_be_the_same(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = trained({"name": "lora", "rank": 2, "encoder": {**NETWORK, "weights": str(weights)}}, FROZEN)
    light, elsewhere = tmp_path / "light.safetensors", tmp_path / "elsewhere.safetensors"
    pipeline.export(light, whole=False)
    weights.rename(elsewhere)
    with pytest.raises(
        InputError, match=re.escape(f"exported without its tower, and there is no weights file {str(weights)!r}. Give the file")
    ):
        load(light)
    here: dict[str, Any] = {"encoder.encoder.weights": str(elsewhere)}
    assert torch.equal(vectors(load(light, **here)), vectors(pipeline))
    assert load(light, **here).encoder_digest() == pipeline.encoder_digest(), "wherever the file lies"
    for key, message in (
        ("encoder.miner", "'encoder.miner' was no object"),
        ("phases.0.weights", "lacks weights, which is at 'encoder.encoder.weights'"),
    ):
        with pytest.raises(InputError, match=message):
            load(light, **{key: str(elsewhere)})

    call = ["sbirlib", "export", str(light), "--out", str(tmp_path / "whole.safetensors"), "--set", f"encoder.encoder.weights={elsewhere}"]
    monkeypatch.setattr("sys.argv", call)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None), capsys.readouterr().err
    assert torch.equal(vectors(load(tmp_path / "whole.safetensors")), vectors(pipeline))

    tensors = load_file(elsewhere)
    save_file({name: value + 1 if value.is_floating_point() else value for name, value in tensors.items()}, elsewhere)
    with pytest.raises(InputError, match=r"names its tower by a digest .*, and the weights read for encoder\.encoder\.backbone are others"):
        load(light, **here)


@pytest.mark.parametrize(
    ("encoder", "parameters", "message"),
    [
        (
            {"name": "centred", "encoder": NETWORK},
            [],
            "hardly any pretrained weight of this model is as it was before training: export it whole",
        ),
        ({"name": "centred", "encoder": {**NETWORK, "pretrained": False}}, FROZEN, "hardly any pretrained weight"),
        (
            {
                "name": "backbone",
                "backbone": torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()),
            },
            [],
            "parts that were handed over as objects",
        ),
    ],
)
def test_models_without_a_tower_to_name_are_refused(
    encoder: dict[str, Any], parameters: list[dict[str, Any]], message: str, weights: Path, tmp_path: Path
) -> None:
    if encoder.get("encoder") is NETWORK:
        encoder = {**encoder, "encoder": {**NETWORK, "weights": str(weights)}}
    pipeline = trained(encoder, parameters)
    with pytest.raises(InputError, match=message):
        pipeline.export(tmp_path / "light.safetensors", whole=False)
    assert not (tmp_path / "light.safetensors").exists()


@pytest.mark.parametrize(
    ("tower", "dim", "message"),
    [
        ({"bytes": 2**40}, 8, "bytes"),
        ({"bytes": 2**36}, 100_000_000, "asks for a model of many more"),
        ({"digest": "\x1b[31m"}, 8, "digest"),
    ],
)
def test_a_file_cannot_declare_a_tower_without_end(tower: dict[str, Any], dim: int, message: str, weights: Path, tmp_path: Path) -> None:
    pipeline, light = trained({"name": "lora", "rank": 2, "encoder": {**NETWORK, "weights": str(weights)}}, FROZEN), tmp_path / "light"
    pipeline.export(light, whole=False)
    tensors, about = checkpoint.read(light)
    about["recipe"]["encoder"]["encoder"]["dim"] = dim
    about["towers"]["encoder.encoder.backbone"] |= tower
    checkpoint.write(light, tensors, about)
    with pytest.raises(InputError, match=message):
        load(light)


def test_a_tower_that_the_recipe_lacks_is_damage(weights: Path, tmp_path: Path) -> None:
    pipeline, light = trained({"name": "lora", "rank": 2, "encoder": {**NETWORK, "weights": str(weights)}}, FROZEN), tmp_path / "light"
    pipeline.export(light, whole=False)
    tensors, about = checkpoint.read(light)
    about["towers"]["encoder.backbone"] = about["towers"].pop("encoder.encoder.backbone")
    checkpoint.write(light, tensors, about)
    with pytest.raises(
        InputError, match="leaves out the weights of encoder.backbone, where its recipe has no pretrained backbone: it is damaged"
    ):
        load(light)


def test_of_several_towers_each_is_read_only_where_it_is_needed(weights: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.safetensors"
    save_file(load_file(weights), teacher)
    inner = {"name": "projection", "dim": 8, "encoder": {**NETWORK, "weights": str(weights)}}
    encoder = {"name": "taught", "encoder": inner, "teacher": {**NETWORK, "dim": 0, "weights": str(teacher)}}
    pipeline, light = trained(encoder, [{"of": "encoder.encoder.encoder.backbone", "frozen": True}]), tmp_path / "light"
    pipeline.export(light, whole=False)
    teacher.unlink()
    assert torch.equal(vectors(load(light)), vectors(pipeline)), "search needs no teacher"


def test_weights_are_loaded_before_they_are_exported_and_an_export_can_be_saved(weights: Path, tmp_path: Path) -> None:
    untrained = build(encoder={"name": "centred", "encoder": {**NETWORK, "weights": str(weights)}}, losses=["cross_entropy"])
    untrained.export(tmp_path / "light", whole=False)
    assert set(checkpoint.read(tmp_path / "light")[1]["towers"]) == {"encoder.encoder.backbone"}
    pipeline = trained({"name": "lora", "rank": 2, "encoder": {**NETWORK, "weights": str(weights)}}, FROZEN)
    pipeline.export(tmp_path / "light", whole=False)
    load(tmp_path / "light").save(tmp_path / "saved")
    assert torch.equal(vectors(load(tmp_path / "saved")), vectors(pipeline))
    with pytest.raises(
        InputError, match=r"was exported without the weights of encoder\.encoder\.backbone: load it, and save or export it whole"
    ):
        untrained.warm_start(tmp_path / "light", "encoder.encoder.backbone")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "nothing to write: give --onnx FOLDER, or --out FILE"), (["--onnx", "x", "--adapter"], "--adapter goes with --out")],
)
def test_the_command_says_what_it_can_write(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["sbirlib", "export", "sbirlib", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert message in capsys.readouterr().err
