"""Recorder of the pins: final weights, recipe digests, metrics of a saved model, and a checkpoint in the middle of a run.

    python tests/pins/record.py    # overwrites the pins of this processor; a change of them is a change of results

Weights are equal bit for bit on one kind of processor and one version of torch alone, so digests stand under both; the losses of
each step hold everywhere, within rounding.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from sbirlib import build, list_parts, load
from sbirlib.pipeline import Pipeline
from sbirlib.testing.world import separable

HERE = Path(__file__).parent
METHODS = ("mathm", "acnet", "generative", "vtd", "landmarks")
FIT: dict[str, Any] = {"device": "cpu", "progress": False, "tensorboard": False, "log_every": 1}


def machine() -> str:
    """The processor and the version of torch, on which the last bits depend."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown'}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def small(method: str) -> dict[str, Any]:
    """The resolved recipe of a method, made small: stored with the pins, so that a change of the method's own recipe is seen apart."""
    tables: dict[str, Any] = json.loads((HERE / f"{method}.json").read_text(encoding="utf-8"))
    return tables


def weights_digest(pipeline: Pipeline) -> str:
    """SHA-256 of all tensors of a pipeline, losses included."""
    digest = hashlib.sha256()
    for name, tensor in sorted(pipeline.model.tensors().items()):
        digest.update(name.encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def trained(tables: dict[str, Any], folder: Path, **options: Any) -> tuple[Pipeline, list[dict[str, float]]]:
    """A pipeline trained in one thread on stripes, and the loss terms of each step."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pipeline = build(tables).fit(separable(), out=folder, **FIT, **options)
    finally:
        torch.set_num_threads(threads)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return pipeline, [line["losses"] for line in lines if "losses" in line]


def resumed(folder: Path) -> tuple[Pipeline, list[dict[str, float]]]:
    """The run that goes on from the stored checkpoint, whose first steps an earlier version made."""
    folder.mkdir(exist_ok=True)
    shutil.copy(HERE / "checkpoint.safetensors", folder)
    return trained(small("mathm"), folder, resume=True)


def metrics(model: Path) -> dict[str, float]:
    """The metrics of a saved model on stripes."""
    return dict(load(model).evaluate(separable(), device="cpu", progress=False))


def digests() -> dict[str, str]:
    """The digest of every recipe of this project."""
    return {name: build(name).recipe.digest for name in list_parts("recipe")}


def main() -> None:
    """Record everything; digests of other machines stay."""
    place = HERE / "pins.json"
    pins = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {"weights": {}, "losses": {}}
    own = pins["weights"].setdefault(machine(), {})
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            pipeline, pins["losses"][method] = trained(small(method), Path(folder) / method)
            own[method] = weights_digest(pipeline)
        own["resumed"] = weights_digest(resumed(Path(folder) / "resumed")[0])
    model = HERE / "model.safetensors"
    if model.is_file():
        pins["metrics"] = metrics(model)
    pins["recipes"] = digests()
    place.write_text(json.dumps(pins, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
