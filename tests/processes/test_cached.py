"""Cached features of several processes: the losses of one process, with one store of features for both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.processes.launch import environment, run

CACHED = (
    'phases.0.parameters=[{of = "encoder.backbone.conv1", frozen = true}, {of = "encoder.backbone.bn1", frozen = true}, '
    '{of = "encoder.backbone.layer1", frozen = true}, {of = "encoder.backbone.layer2", frozen = true}]',
    'phases.0.cache={module = "encoder.backbone.layer2"}',
)


def test_two_processes_share_cached_features(data: Path, tmp_path: Path) -> None:
    logs = []
    for count in (2, 1):
        out = tmp_path / f"run{count}"
        call = ["train", data / "recipe.toml", "--data", data / "figures", "--split", f"{data / 'splits.json'}:figures", "--out", out]
        call += [word for setting in CACHED for word in ("--set", setting)]
        start = ["--no-python", "sbirlib"] if count > 1 else ["-c", "from sbirlib.cli import main; main()"]
        process = run(count, *start, *map(str, call), env=environment() | {"XDG_CACHE_HOME": str(tmp_path / "cache")})
        assert process.returncode == 0, process.stderr[-3000:]
        assert process.stderr.count("features of encoder.backbone.layer2 are kept in") == 1, process.stderr
        logs.append([json.loads(line).get("losses") for line in (out / "log.jsonl").read_text().splitlines()])
    for two, one in zip(*logs, strict=True):
        assert (two is None) == (one is None)
        assert one is None or two == pytest.approx(one, rel=1e-4)
    assert len(list((tmp_path / "cache" / "sbirlib" / "features").iterdir())) == 1
