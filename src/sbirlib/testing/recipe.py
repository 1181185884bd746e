"""What holds for a recipe, made small: a tiny backbone, few classes, twenty steps a phase."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import torch

from sbirlib import recipe as recipes
from sbirlib import registry
from sbirlib.pipeline import Pipeline, build
from sbirlib.recipe import Recipe
from sbirlib.testing.subject import BACKBONE, CheckFailed, Subject, require
from sbirlib.testing.world import separable

STEPS, RATE, SIZE = 20, 3e-3, 32
RISE = 0.05  # of mAP@all: more than batch norms' statistics alone can do
SAMPLER = {"categories": 4, "per_modality": 2, "pairs": 8, "size": 16}


def small(subject: Subject, *, steps: int = STEPS) -> Pipeline:
    """The recipe's pipeline with the same parts and phases, each phase of `steps` steps without warm-up and freezing."""
    tables = Recipe.of(recipes.read(subject.name)).check().tables()
    tables["encoder"] = _tiny(tables["encoder"])
    tables["transform"]["size"] = SIZE
    tables["evaluators"] = {"category": {"name": "category", "metrics": ["mAP@all"]}}
    tables["sampler"] = _few(tables["sampler"])
    for phase in tables["phases"]:
        phase["steps"] = steps
        phase["sampler"] = phase["sampler"] and _few(phase["sampler"])
        phase["schedule"] = {"name": "constant"}
        phase["optimizer"] |= {"lr": RATE} if "lr" in phase["optimizer"] else {}
        rules = [{k: v for k, v in rule.items() if k == "of" or (k == "frozen" and v is True)} for rule in phase["parameters"]]
        phase["parameters"] = [rule for rule in rules if len(rule) > 1]
    for key, value in subject.options.items():
        tables = recipes.assign(tables, key, value)
    return build(tables)


def is_complete_as_it_stands(subject: Subject) -> None:
    """It builds as published, and its resolved form builds the same again."""
    pipeline = build(subject.name)
    again = Recipe.of(pipeline.recipe.tables()).check()
    require(again.digest == pipeline.recipe.digest, f"{subject.id}: its resolved form is another recipe")


def learns_what_can_be_told_apart(subject: Subject) -> None:
    """Some steps on stripes of six directions, else three times as many, raise the retrieval of stripes it was trained on."""
    data = separable()
    for steps in (STEPS, 3 * STEPS):  # what begins with a generator of nothing needs more
        pipeline = small(subject, steps=steps)
        before = pipeline.evaluate(data, device="cpu", progress=False)["mAP@all"]
        pipeline.fit(data, device="cpu", progress=False, tensorboard=False)
        after = pipeline.evaluate(data, device="cpu", progress=False)["mAP@all"]
        if after > before + RISE:
            return
    raise CheckFailed(f"{subject.id}: mAP@all goes from {before:.3f} to {after:.3f} on data that is easily told apart")


def resumes_where_it_stopped(subject: Subject) -> None:
    """Stopped in the middle, loaded and gone on with, it ends bit-equal to not having stopped."""
    data = separable()
    fit: dict[str, Any] = {"device": "cpu", "progress": False, "tensorboard": False, "save_every": 1}
    with tempfile.TemporaryDirectory() as folder:
        whole = small(subject, steps=3).fit(data, out=Path(folder) / "whole", **fit)
        stopped = small(subject, steps=3)
        _stop_in_the_middle(stopped)
        with contextlib.suppress(_Stop):
            stopped.fit(data, out=Path(folder) / "stopped", **fit)
            require(False, f"{subject.id}: its training never calls the encoder, so it could not be stopped in the middle")
        resumed = small(subject, steps=3).fit(data, out=Path(folder) / "stopped", resume=True, **fit)
    expected = whole.model.tensors()
    for name, value in resumed.model.tensors().items():
        require(torch.equal(value, expected[name]), f"{subject.id}: after resuming, {name} differs from an undisturbed run's")


class _Stop(Exception):
    pass


def _stop_in_the_middle(pipeline: Pipeline) -> None:
    """Raise when what is trained is called in the step after the middle one."""
    calls = 0
    middle = sum(phase.steps for phase in pipeline.recipe.phases) // 2

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls > middle + 1:
            raise _Stop

    for name in {phase.encoder or "" for phase in pipeline.recipe.phases}:
        pipeline.encoder.get_submodule(name).register_forward_pre_hook(count)


def _tiny(table: dict[str, Any]) -> dict[str, Any]:
    """An encoder's table with a tiny backbone from scratch, and so for the encoders inside it."""
    known = registry.options("encoder", table["name"])
    less = {"backbone": BACKBONE, "pretrained": False, "weights": None, "timm_options": {}, "output_stride": None, "dim": 16}
    changed = table | {k: v for k, v in less.items() if k in known}
    inner = [k for k, p in known.items() if registry.held(p) == "encoder"]
    return {k: _tiny(v) if k in inner and isinstance(v, dict) else v for k, v in changed.items()}


def _few(table: dict[str, Any]) -> dict[str, Any]:
    return table | {k: v for k, v in SAMPLER.items() if k in table}


CHECKS = (is_complete_as_it_stands, learns_what_can_be_told_apart, resumes_where_it_stopped)
