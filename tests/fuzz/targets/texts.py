"""Texts that are no dataset: recipes, settings of the command line, runs of benchmarks, and logs of training."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

from tests.fuzz.targets.target import Target

from benchmarks.experiments import store
from benchmarks.experiments.folders import FOLDERS
from sbirlib import build
from sbirlib.cli.options import pairs, settings
from sbirlib.documents import scalar
from sbirlib.training.log import Log

RECIPE = """\
format = 1
name = "small"
seed = 3
transform = { name = "sbir", size = 32, flip = true }

[encoder]
name = "backbone"
backbone = "resnet10t"
pretrained = false
dim = 16
timm_options = { stem_type = "", channels = [8, 16, 16, 16] }

[miner]
name = "modality_hard"
kinds = ["cross", "within"]

[losses]
cross_entropy = { bias = false }
balanced_triplet = { margin = 0.2, floor = 0.1 }

[sampler]
name = "balanced"
categories = 3
per_modality = 2

[[phases]]
steps = 80
weights = { cross_entropy = 1.0, balanced_triplet = 0.5 }
optimizer = { name = "adam", lr = 1e-4, weight_decay = 5e-4 }
schedule = { name = "cosine", warmup = 10 }
parameters = [{ of = "encoder.backbone", lr = 1e-5, frozen = 4 }]

[evaluators]
category = { metrics = ["mAP@all", "Prec@100"] }
"""
SETTINGS = """\
encoder.dim=8
encoder.timm_options={stem_type = "", channels = [8, 8, 8, 8]}
phases.0.steps=3
phases.0.optimizer=sgd
phases.0.parameters=[{of = "encoder", lr = 1e-5}]
losses.balanced_triplet.margin=0.3
losses.cross_entropy.scale=2
miner=random
transform.flip=no
seed=7"""
MAX_ARGUMENTS = 2**20  # bytes
WHERE = "category=cat\ncategory=dog\nyear=2001\nshare=0.125\nnew=true\nname=a b"


def make(name: str, text: str, folder: Path) -> None:
    """The recipe, and a text beside it."""
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    (folder / name).write_text(text, encoding="utf-8")


def arguments(path: Path) -> list[str]:
    """The lines of a file as arguments of a command, which hold no NUL, and any other bytes as surrogates."""
    if not path.is_file() or path.stat().st_size > MAX_ARGUMENTS:
        return []
    return [os.fsdecode(line) for line in path.read_bytes().replace(b"\0", b"").split(b"\n") if line]


def answer_recipe(folder: Path) -> Any:
    return build("recipe.toml").recipe.digest


def answer_set(folder: Path) -> Any:
    return build("recipe.toml", **settings(arguments(folder / "set.txt"))).recipe.digest


def answer_where(folder: Path) -> Any:
    """Keys and values of filters, as `sbirlib search` reads them."""
    return [[name, value, repr(scalar(value))] for name, value in pairs(arguments(folder / "where.txt"), "--where", "FIELD=VALUE")]


def make_runs(folder: Path) -> None:
    with mock.patch.object(FOLDERS, "results", folder):
        for seed in range(3):
            store.write(
                {"experiment": "tiny", "row": "mathm", "seed": seed, "metrics": {"mAP@all": 0.1 + 0.2}, "environment": {"device": "cpu"}}
            )


def answer_runs(folder: Path) -> Any:
    with mock.patch.object(FOLDERS, "results", folder):
        return store.read("tiny")


def _are_among(runs: Any, expected: Any) -> bool:
    """Whether all runs are of those: each line has its own digest, so a line that is missing, or there twice, is not noticed."""
    return all(run in expected for run in runs)


def make_log(folder: Path) -> None:
    lines = [{"step": step, "phase": 0, "lr": {"encoder": 1e-3}, "losses": {"cross_entropy": 1.5 / step}} for step in range(1, 7)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def answer_log(folder: Path) -> Any:
    """The lines after a run that was resumed from its fourth step has written its fifth."""
    with Log(folder, total=6, done=4, show=False, tensorboard=False) as log:
        log.record(5, losses={"cross_entropy": 0.1})
    return (folder / "log.jsonl").read_text(encoding="utf-8", errors="surrogateescape").splitlines()


TARGETS = [
    Target("recipe", lambda folder: make("recipe.toml", RECIPE, folder), answer_recipe, {"recipe.toml": "lines"}),
    Target("set", lambda folder: make("set.txt", SETTINGS, folder), answer_set, {"set.txt": "lines"}),
    Target("where", lambda folder: make("where.txt", WHERE, folder), answer_where, {"where.txt": "lines"}),
    Target("runs", make_runs, answer_runs, {"tiny.jsonl": "jsonl"}, agrees=_are_among),
    Target("log", make_log, answer_log, {"log.jsonl": "jsonl"}),
]
