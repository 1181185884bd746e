"""Checks of recipes, made small: a tiny backbone, few classes, twenty steps a phase."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import torch

from sbirlib import recipe_file, registry
from sbirlib.opening import load
from sbirlib.options import options_of
from sbirlib.pipeline import Pipeline, build
from sbirlib.recipe import Recipe
from sbirlib.spec import component_kind
from sbirlib.testing.subject import BACKBONE, CheckFailed, Subject, require
from sbirlib.testing.world import separable
from sbirlib.training.steps import StepEvent

STEPS, RATE, SIZE = 20, 3e-3, 32
RISE = 0.05  # of mAP@all: more than batch norms' statistics alone can do
SAMPLER = {"categories": 4, "per_modality": 2, "pairs": 8, "size": 16}


def small(subject: Subject, *, steps: int = STEPS) -> Pipeline:
    """The recipe's pipeline with the same components and phases, each phase of `steps` steps without warm-up and caches.

    What it freezes for the whole phase stays frozen, but layers of its own backbone, which the tiny one does not have.
    """
    tables = Recipe.of(recipe_file.read(subject.name)).tables()
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
        phase["parameters"] = [rule for rule in rules if len(rule) > 1 and ".backbone." not in rule["of"]]
        phase["cache"] = None
    for key, value in subject.options.items():
        tables = recipe_file.assign(tables, key, value)
    return build(tables)


def is_complete_as_it_stands(subject: Subject) -> None:
    """It builds as published, and its resolved form builds the same again."""
    pipeline = build(subject.name)
    again = Recipe.of(pipeline.recipe.tables())
    require(again.digest == pipeline.recipe.digest, f"{subject.id}: its resolved form is another recipe")


def learns_what_can_be_told_apart(subject: Subject) -> None:
    """Some steps on stripes of six directions, else three times as many, raise the retrieval of stripes it was trained on.

    A recipe without phases ranks all photos of an index.
    """
    data = separable()
    if not small(subject).recipe.phases:
        photos = data.photos
        hits = small(subject).index(photos, progress=False).search(photos.read(0), k=len(photos))
        require(len(hits) == len(photos), f"{subject.id}: a search returns {len(hits)} of {len(photos)} photos")
        return
    for steps in (STEPS, 3 * STEPS):  # a generator trained from scratch needs more
        pipeline = small(subject, steps=steps)
        before = pipeline.evaluate(data, device="cpu", progress=False)["mAP@all"]
        pipeline.fit(data, device="cpu", progress=False, tensorboard=False)
        after = pipeline.evaluate(data, device="cpu", progress=False)["mAP@all"]
        if after > before + RISE:
            return
    raise CheckFailed(f"{subject.id}: mAP@all goes from {before:.3f} to {after:.3f} on data that is easily told apart")


def resumes_where_it_stopped(subject: Subject) -> None:
    """Stopped in the middle, loaded and resumed, it ends bit-equal to a run that was not stopped; without phases, a saved model is as before."""
    data = separable()
    if not (untrained := small(subject)).recipe.phases:
        with tempfile.TemporaryDirectory() as folder:
            untrained.save(file := Path(folder) / "model.safetensors")
            same = load(file).encoder_digest() == untrained.encoder_digest()
        require(same, f"{subject.id}: a saved model is another when it is loaded")
        return
    fit: dict[str, Any] = {"device": "cpu", "progress": False, "tensorboard": False, "save_every": 1}
    with tempfile.TemporaryDirectory() as folder:
        whole = small(subject, steps=3).fit(data, out=Path(folder) / "whole", **fit)
        stopped = small(subject, steps=3)
        middle = sum(phase.steps for phase in stopped.recipe.phases) // 2

        def stop(event: StepEvent) -> None:
            if event.done == middle + 1:
                raise _Stop

        with contextlib.suppress(_Stop):
            stopped.fit(data, out=Path(folder) / "stopped", on_step=stop, **fit)
        resumed = small(subject, steps=3).fit(data, out=Path(folder) / "stopped", resume=True, **fit)
    expected = whole.model.tensors()
    for name, value in resumed.model.tensors().items():
        require(torch.equal(value, expected[name]), f"{subject.id}: after resuming, {name} differs from an undisturbed run's")


class _Stop(Exception):
    pass


def _tiny(table: dict[str, Any]) -> dict[str, Any]:
    """An encoder's table with a tiny backbone from scratch, and so for the encoders inside it."""
    options = options_of(registry.load("encoder", table["name"]))
    less = {"backbone": BACKBONE, "pretrained": False, "weights": None, "timm_options": {}, "output_stride": None, "dim": 16}
    changed = table | {k: v for k, v in less.items() if k in options and table[k] != 0}  # dim = 0 may be needed
    inner = [k for k, p in options.items() if component_kind(p) == "encoder"]
    return {k: _tiny(v) if k in inner and isinstance(v, dict) else v for k, v in changed.items()}


def _few(table: dict[str, Any]) -> dict[str, Any]:
    return table | {k: v for k, v in SAMPLER.items() if k in table}


CHECKS = (is_complete_as_it_stands, learns_what_can_be_told_apart, resumes_where_it_stopped)
