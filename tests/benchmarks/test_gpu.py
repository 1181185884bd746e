"""The program for GPUs, run small on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIZES = {
    "--backbone": "test_resnet",
    "--size": "64",
    "--images": "16",
    "--steps": "4",
    "--warm-up": "1",
    "--output-stride": "8",
    "--log-every": "2",
}
SMALL = ["--device", "cpu", *(word for pair in SIZES.items() for word in pair)]


@pytest.mark.parametrize(
    "method", ["mathm", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vtd", "acnet", "landmarks-retrieval"))]
)
def test_the_program_for_gpus_runs_on_the_cpu(method: str) -> None:
    line = [sys.executable, "-m", "benchmarks.speed.gpu", method, *SMALL]
    process = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    results = json.loads(process.stdout)["results"]
    assert [(result["method"], result["compile"]) for result in results] == [(method, False), (method, True)]
    for result in results:
        assert 0.05 < result["of_bare"] < 2
        assert 0 <= result["waiting"] < 1
        assert result["tflops_bare"] > 0
        assert result["steps"] == 4
