"""Training of recipes in one process of a group: losses, gradients and final weights, for comparison with one process.

python -m tests.processes.launch 2 -m tests.processes.recipes FOLDER STEPS RECIPE[+VARIANT] ...
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbirlib import recipe_file
from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import from_lists
from sbirlib.interfaces import PHOTO, SKETCH
from sbirlib.processes import launched, rank
from sbirlib.recipe import Recipe
from sbirlib.testing.recipe import small
from sbirlib.testing.subject import Subject
from sbirlib.testing.world import separable
from sbirlib.training.steps import StepEvent

VARIANTS: dict[str, dict[str, Any]] = {"": {}, "cached": {"chunk": 3, "accumulate": 2, "clip": 0.1}}  # changes of every phase
EVAL = {"of": "encoder", "eval": True}  # norms of a chunk, which are others for other shares, stay out
WORDS = Path(__file__).parents[2] / "plugins/sbirlib-vtd/tests/words.txt"  # a vector of each class of stripes
FEW = {"width": 16, "size": 16, "channels": 4, "blocks": 1}  # of networks beside the backbone


def speckled() -> Dataset:
    """Stripes with noise: on plain ones equal pixels tie in a maximum, and rounding would choose where the gradient goes."""
    plain, random = separable(), np.random.default_rng(0)
    rows: dict[int, list[tuple[Any, str, str]]] = {SKETCH: [], PHOTO: []}
    for i in range(len(plain)):
        pixels = np.asarray(plain.read(i)).astype(int)
        noise = random.integers(-40, 40, pixels.shape)
        rows[int(plain.modality[i])].append(
            ((pixels + noise).clip(0, 255).astype(np.uint8), plain.categories[plain.category[i]], str(plain.instance[i]))
        )
    return from_lists("speckled", sketches=rows[SKETCH], photos=rows[PHOTO])


def few_of(name: str) -> dict[str, Any]:
    """Options that make the networks of a recipe small beside its backbone, by dotted path."""
    tables = Recipe.of(recipe_file.read(name)).tables()
    parts = {"encoder": tables["encoder"]} | {f"losses.{loss}": table for loss, table in tables["losses"].items()}
    few: dict[str, Any] = {f"{place}.{option}": value for place, table in parts.items() for option, value in FEW.items() if option in table}
    if tables["encoder"]["name"] == "landmark":  # a map of 4 x 4 cells
        few |= {"encoder.landmarks": min(4, tables["encoder"]["landmarks"]), "encoder.encoder.output_stride": 8}
    if "word_vectors" in tables["losses"]:
        few |= {"losses.word_vectors.vectors": str(WORDS), "losses.word_vectors.words": [f"direction{i}" for i in range(6)]}
    return few


def trained(name: str, steps: int, delay: float = 0.0, variant: str = "") -> dict[str, Any]:
    """Losses of each step, gradients of the first step of each phase, and the weights at the end; tensors of any shape by name."""
    few, tables = few_of(name), Recipe.of(recipe_file.read(name)).tables()
    for i, phase in enumerate(tables["phases"] if variant else []):
        rules = [{"of": rule["of"], "frozen": True} for rule in phase["parameters"] if rule.get("frozen") is True]
        few |= {f"phases.{i}.{key}": value for key, value in VARIANTS[variant].items()} | {f"phases.{i}.parameters": [*rules, EVAL]}
    pipeline = small(Subject("recipe", name, few), steps=steps)
    pipeline.encoder.double()
    losses: list[dict[str, float]] = []
    gradients: dict[str, Tensor] = {}

    def note(event: StepEvent) -> None:
        time.sleep(delay)
        losses.append(dict(event.losses))
        if event.position.step == 1:
            for parameter_name, parameter in pipeline.model.named_parameters():
                if parameter.grad is not None:
                    gradients[f"{event.phase} {parameter_name}"] = parameter.grad.clone()

    pipeline.fit(speckled(), device="cpu", progress=False, tensorboard=False, on_step=note)
    return {"losses": losses, "gradients": gradients, "weights": pipeline.model.tensors()}


def main() -> None:
    folder, steps, *names = sys.argv[1:]
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # rounding would grow from step to step, under Adam and hard mining
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    for name in names:
        recipe, _, variant = name.partition("+")
        result = trained(recipe, int(steps), 0.02 if launched()[0] == 1 else 0.0, variant)  # one process is slower
        if rank() == 0:
            torch.save(result, Path(folder) / f"{name}.pt")


if __name__ == "__main__":
    main()
