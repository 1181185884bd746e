"""Rows with data of their own, interventions, and worlds in small: a method has its gain, and loses it by a fault."""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import run_all
from benchmarks.experiments import definition, runs, store
from benchmarks.experiments.folders import FOLDERS, Folders
from benchmarks.experiments.interventions import SOLID, intervention, solid_ink
from sbirlib import InputError, split, synthetic
from sbirlib.testing.recipe import small
from sbirlib.testing.subject import Subject
from sbirlib.testing.world import batch

WORLD = """
title = "A world"
world = "style"
data = "synthetic"
options = { categories = 10, unseen = 2, instances = 3, size = 32, world = "style" }
against = "plain"
seeds = 2

[settings]
encoder = { name = "backbone", backbone = "test_resnet", pretrained = false, dim = 8 }
"transform.size" = 32

[[rows]]
name = "plain"
recipe = "supcon"
train = false

[[rows]]
name = "oracle"
recipe = "supcon"
train = false
data = { solution = true }
"""


def test_a_row_may_have_data_of_its_own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "definitions" / "world.toml").write_text(WORLD)
    monkeypatch.setattr(sys, "argv", ["run_all.py", "world", "--device", "cpu"])
    run_all.main()
    results = {(run["row"], run["seed"]): run for run in store.read("world")}
    assert len(results) == 4
    digests = {row: {results[row, seed]["data"]["digest"] for seed in (0, 1)} for row in ("plain", "oracle")}
    assert [len(own) for own in digests.values()] == [1, 1]
    assert digests["plain"] != digests["oracle"]
    assert results["plain", 0]["queries"]["category"] == results["oracle", 0]["queries"]["category"]


def test_results_and_pages_may_stand_in_another_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    claim = 'paper = "vtd"\n[[claims]]\nsays = "It helps"\nwhere = "table 1"\nbetter = "oracle"\nworse = "plain"\noracle = "oracle"\n'
    head, table = claim.split("\n", 1)
    (here / "definitions" / "world.toml").write_text(f"{head}\n{WORLD}{table}")
    (here / "definitions" / "other.toml").write_text(WORLD.replace('world = "style"\n', "", 1))  # not of the preset
    monkeypatch.setattr(sys, "argv", ["run_all.py", "--preset", "worlds", "--device", "cpu", "--out", str(here / "mine")])
    run_all.main()
    assert {path.name for path in (here / "mine").iterdir()} == {"results", "pages", "pictures"}
    assert {path.name for path in (here / "mine" / "pictures").iterdir()} == {"world-plain.webp", "world-oracle.webp"}
    assert (here / "mine" / "pages" / "results.html").read_text().count('<img src="data:image/webp;base64,') == 2
    assert {path.name for path in (here / "mine" / "pages").iterdir()} == {"results.md", "claims.md", "results.html"}
    assert not (here / "results").exists()
    headings = [line for line in (here / "mine" / "pages" / "results.md").read_text().splitlines() if line.startswith("## ")]
    assert len(headings) == 1 < len(definition.names()), "pages of one's own show the experiments that were run"
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"(not decided|holds|does not hold): It helps: mAP@all [+-][.0-9]+ \(.*\)(, 100% of the oracle's gain)? \[world\]", last
    ), last


def test_a_file_is_no_folder_for_results(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="--out takes a folder, and '.*file' is a file"):
        Folders().move(tmp_path / "file")


def test_permuted_gates_are_those_of_the_neighbour() -> None:
    pipeline = small(Subject("recipe", "vtd"))
    descriptor, images = pipeline.encoder.get_submodule("descriptor").eval(), batch(size=32)
    with torch.no_grad():
        before = descriptor(images).embedding
        with intervention("permuted_gates", pipeline):
            assert torch.equal(descriptor(images).embedding, before.roll(1, 0))
    with pytest.raises(InputError, match="there is no intervention 'permuted_gate'; did you mean 'permuted_gates'"):
        intervention("permuted_gate", pipeline)
    with intervention("", pipeline):
        pass


def test_contours_and_shading_are_told_apart_by_solid_ink() -> None:
    sheet = torch.ones(2, 3, 32, 32)
    sheet[0, :, 4:28, 15:17] = sheet[1, :, 4:28, 10:20] = 0
    assert solid_ink(sheet).tolist() == [0, 22 * 8]
    world: Any = synthetic(categories=90, unseen=15, instances=16, sketches=3, size=32, distractors=False, turn=False, world="traits")
    items = world.sketches.index[::20]  # of the experiment's world
    images = torch.stack([torch.from_numpy(np.asarray(world.reader(int(i)).convert("RGB"))) for i in items]).permute(0, 3, 1, 2) / 255
    manners = torch.tensor([world.reader.manner(int(i)) for i in items])
    assert ((solid_ink(images) > SOLID) == manners.bool()).float().mean() > 0.93


def test_an_idle_discriminator_stays_as_it_began(tmp_path: Path) -> None:
    data = synthetic(categories=6, unseen=2, instances=4, size=32)

    def discriminator(name: str, steps: int) -> list[torch.Tensor]:
        pipeline = small(Subject("recipe", "acnet"), steps=steps)
        with intervention(name, pipeline):
            pipeline.fit(data, out=tmp_path / f"{name}-{steps}", tensorboard=False)
        return [p.detach() for p in pipeline.losses["patch_adversary"].get_submodule("discriminator").parameters()]

    idle, longer, trained = discriminator("idle_discriminator", 2), discriminator("idle_discriminator", 4), discriminator("", 4)
    assert all(torch.equal(one, other) for one, other in zip(idle, longer, strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(idle, trained, strict=True))


@pytest.mark.parametrize("side", ["negative", "positive"])
def test_permuted_triplets_are_those_of_the_anchor_half_a_batch_away(side: str) -> None:
    pipeline = small(Subject("recipe", "mathm"))
    features = pipeline.encoder(batch(size=32))
    distances, miner = pipeline.encoder.distances(features), pipeline.model.miner
    assert miner is not None
    before = miner(features, distances)
    with intervention(f"permuted_{side}s", pipeline):
        permuted = miner(features, distances)
    for kind, triplets in before.items():
        for other in ("anchor", "positive", "negative"):
            shift = len(triplets) // 2 if other == side else 0
            assert torch.equal(getattr(permuted[kind], other), getattr(triplets, other).roll(shift))
    assert torch.equal(miner(features, distances)["cross"].negative, before["cross"].negative)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seeds", "method", "ablation", "fault", "oracle"),
    [
        ("world-traits", [3], "VTD", "hard transfer", "VTD, gates permuted", "VTD, manner known"),
        ("world-style", range(5), "decoder", "no decoder", "decoder, shuffled targets", "no decoder, photos as drawings"),
        (
            "world-synthesis",
            [0],
            "ACNet",
            "NormSoftmax",
            "adversary and identity, no retrieval loss for the generator",
            "NormSoftmax, photos as drawings",
        ),
        ("world-imbalance", [0], "MATHM, random", "CE", "MATHM, permuted positives", "CE, any cue"),
    ],
)
def test_in_its_world_a_method_has_its_gain_and_loses_it_by_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, seeds: Sequence[int], method: str, ablation: str, fault: str, oracle: str
) -> None:
    """The style world takes five seeds: in each the decoder's gain is as large as its spread."""
    if name == "world-imbalance" and "SBIRLIB_DATA" not in os.environ:
        pytest.skip("SBIRLIB_DATA is not set: a frozen backbone needs its weights")
    for place in ("results", "runs"):
        monkeypatch.setattr(FOLDERS, place, tmp_path / place)
    experiment = definition.read(name)
    rows = {row.name: row for row in experiment.rows}
    asked = (ablation, method, fault, oracle)
    sources = [source for row in asked for source in rows[row].warm_start.values()]
    for seed, row in itertools.product(seeds, dict.fromkeys([*sources, *asked])):
        runs.run(experiment, rows[row], seed, run_all.read_data(experiment, seed, rows[row]), "cpu", keep=row in sources)
    results = store.read(name)
    value = {row: np.mean([run["metrics"][experiment.metrics[0]] for run in results if run["row"] == row]) for row in asked}
    share = {row: (value[row] - value[ablation]) / (value[oracle] - value[ablation]) for row in (method, fault)}
    assert value[oracle] > value[ablation]
    assert share[method] > 1 / 3 > share[fault], value


@pytest.mark.slow
@pytest.mark.skipif("SBIRLIB_DATA" not in os.environ, reason="SBIRLIB_DATA is not set: a frozen backbone needs its weights")
def test_in_the_world_of_parts_landmarks_are_better_than_random_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.experiments.probes import landmark_maps

    monkeypatch.setattr(landmark_maps, "CACHE", tmp_path)
    data = split(synthetic(categories=24, unseen=2, instances=16, sketches=2, size=128, world="parts", distractors=False), "classification")
    encoder = {
        "backbone": "tf_efficientnet_lite0",
        "weights": os.environ["SBIRLIB_DATA"] + "/weights/tf_efficientnet_lite0_fp16.safetensors",
    }
    common: dict[str, Any] = {
        "encoder": {**encoder, "output_stride": 16},
        "size": 128,
        "channels": 96,
        "landmarks": 30,
        "epochs": 30,
        "lr": 5e-3,
    }
    accuracy = {
        pooling: np.mean(
            [landmark_maps.measure(data, part="test", seed=seed, pooling=pooling, **common)[0]["accuracy"] for seed in range(2)]
        )
        for pooling in ("random", "landmarks", "known")
    }
    gain = (accuracy["landmarks"] - accuracy["random"]) / (accuracy["known"] - accuracy["random"])
    assert accuracy["known"] > accuracy["random"] + 0.05
    assert gain > 1 / 3, accuracy
