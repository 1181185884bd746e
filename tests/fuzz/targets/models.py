"""Models and checkpoints: an export, a saved pipeline, and a training that stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fuzz.targets import world
from tests.fuzz.targets.target import Target, digest_of

from sbirlib import load
from sbirlib.training.steps import StepEvent

FIT: dict[str, Any] = {"device": "cpu", "progress": False, "tensorboard": False, "save_every": 1}


def make_model(folder: Path, *, exported: bool) -> None:
    pipeline = world.pipeline()
    pipeline.make_losses(("cat", "dog", "owl"), 6)
    (pipeline.export if exported else pipeline.save)(folder / "model.safetensors")


def answer_model(folder: Path) -> Any:
    """Vectors of a sketch and a photo."""
    pipeline = load(folder / "model.safetensors")
    sketch, photo = world.pictures()
    vectors = [
        pipeline.encode_images([sketch], side="query", device="cpu", progress=False),
        pipeline.encode_images([photo], device="cpu", progress=False),
    ]
    return [*map(digest_of, vectors), list(pipeline.categories), pipeline.recipe.digest]


class Stop(Exception):
    """The end of a run, as a power cut would bring it."""


def make_checkpoint(folder: Path) -> None:
    """A run of two phases of two steps, stopped in the second phase before its last step."""

    def stop(event: StepEvent) -> None:
        if event.done == 4:
            raise Stop

    try:
        world.pipeline().fit(world.dataset(), out=folder, on_step=stop, **FIT)
    except Stop:
        return


def answer_checkpoint(folder: Path) -> Any:
    """The final weights of the resumed run."""
    pipeline = world.pipeline().fit(world.dataset(), out=folder, resume=True, **FIT)
    return {name: digest_of(tensor) for name, tensor in pipeline.model.tensors().items()}


TARGETS = [
    Target("model_export", lambda folder: make_model(folder, exported=True), answer_model, {"model.safetensors": "safetensors"}),
    Target("model_saved", lambda folder: make_model(folder, exported=False), answer_model, {"model.safetensors": "safetensors"}),
    Target("checkpoint", make_checkpoint, answer_checkpoint, {"checkpoint.safetensors": "safetensors"}),
]
