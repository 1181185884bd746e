"""Behaviour of a component: its inputs, its outputs for them, and its use in training; the checks compare them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from sbirlib.interfaces import (
    PHOTO,
    SKETCH,
    AdversarialLoss,
    Batch,
    Classifier,
    Encoder,
    Evaluator,
    Features,
    Loss,
    Miner,
    Sampler,
    Schedule,
    Step,
    Transform,
)
from sbirlib.testing import evaluator, loss, miner
from sbirlib.testing.subject import Subject, seeded
from sbirlib.testing.world import Plain, batch, separable

MODULES = ("encoder", "miner", "loss")


def observed(subject: Subject, component: Any) -> dict[str, Tensor]:
    """State of a component and its outputs for fixed inputs, in eval and in training mode; tensors of any shape by name."""
    results: dict[str, Tensor] = {}
    if subject.kind in MODULES:
        results = {f"state {name}": value.clone() for name, value in component.state_dict().items()}
    for mode in ("eval", "training") if subject.kind in MODULES else ("",):
        if mode:
            component.train(mode == "training")
        with seeded(2):
            values = outputs(component, *inputs(subject, component))
        results |= {f"{name} in {mode} mode" if mode else name: value.detach() for name, value in values.items()}
    return results


def inputs(subject: Subject, component: Any) -> tuple[Any, ...]:
    """Fixed arguments of a component's call, without gradient; none for a kind whose calls are not compared."""
    if subject.kind == "encoder":
        return (batch(),)
    if subject.kind == "miner":
        return miner.rows()
    if subject.kind == "loss":
        return (loss.step(subject, component).detach(),)
    if subject.kind == "evaluator":
        return tuple(evaluator.encoded(component, count, queries=count == 12, seed=count) for count in (12, 20))
    if subject.kind == "sampler":
        return (separable(categories=20, instances=2),)
    return (Image.linear_gradient("L").resize((40, 30)).convert("RGB"),) if subject.kind == "transform" else ()


def outputs(component: Any, *arguments: Any) -> dict[str, Tensor]:
    """Outputs of a component's calls; tensors of any shape by name."""
    match component:
        case Encoder():
            return _encoded(component, *arguments)
        case Miner():
            mined = component(*arguments)
            return {f"{kind}.{name}": getattr(t, name) for kind, t in mined.items() for name in ("anchor", "positive", "negative")}
        case Loss():
            return _losses(component, *arguments)
        case Evaluator():
            metrics = {name: torch.tensor(value) for name, value in component.evaluate(*arguments).items()}
            return metrics | {f"{name} per query": values for name, values in component.per_query(*arguments).items()}
        case Transform():
            images = [component.prepare(arguments[0], modality) for modality in (SKETCH, PHOTO)]
            changes = [component.augment(image, modality) for modality, image in enumerate(images)]
            return {f"image {i}": image for i, image in enumerate((*images, *changes))}
        case Sampler():
            epochs = [component.batches(*arguments, seed=0, epoch=epoch) for epoch in (0, 1)]
            return {
                f"epoch {i}": torch.tensor([[number, row] for number, rows in enumerate(b) for row in rows]) for i, b in enumerate(epochs)
            }
        case Schedule():
            return {"factors": torch.tensor([component.factor(step, 10) for step in range(10)])}
    return {}


def use(subject: Subject, component: Any, place: Callable[[Tensor], Tensor] | None = None) -> None:
    """Two training steps of a module with the end of an epoch between them, as training calls it; of other kinds a call.

    `place` puts a step's tensors, of any shape, where the component's are.
    """
    if subject.kind not in MODULES:
        outputs(component, *inputs(subject, component))
        return
    component.train()
    for number in range(2):
        with seeded(number):
            component.after_step(_used(subject, component, batch(seed=number), place or torch.Tensor.detach))
        if number == 0:
            component.end_epoch()


def tensors(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors inside a component's arguments, each with its path."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Step):
        yield from tensors({"features": value.features, "batch": value.batch, "distances": value.distances}, path)
    elif is_dataclass(value):
        yield from (pair for f in fields(value) for pair in tensors(getattr(value, f.name), f"{path}.{f.name}".lstrip(".")))
    elif isinstance(value, Mapping):
        yield from (pair for key, item in value.items() for pair in tensors(item, f"{path}.{key}".lstrip(".")))
    elif isinstance(value, tuple | list):
        yield from (pair for i, item in enumerate(value) for pair in tensors(item, f"{path}.{i}".lstrip(".")))


def changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A component's arguments with `change` applied to every tensor; a Step's encoder stays as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Step):
        features, images = changed(value.features, change), changed(value.batch, change)
        return Step(features, encoder=value.encoder, batch=images, miner=value.miner, progress=value.progress)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: changed(getattr(value, f.name), change) for f in fields(value)})
    if isinstance(value, Mapping):
        return {key: changed(item, change) for key, item in value.items()}
    return type(value)(changed(item, change) for item in value) if isinstance(value, tuple | list) else value


def put(module: nn.Module, place: Callable[[Tensor], Tensor]) -> None:
    """Put a module's parameters and buffers, of any shape, where `place` puts a tensor."""
    module._apply(place)


def _used(subject: Subject, component: Any, images: Batch, place: Callable[[Tensor], Tensor]) -> Step:
    """A step in which the component has been called."""
    if subject.kind == "loss":
        step = loss.step(subject, component, images=images).detach()
        put(step.encoder, place)
        there: Step = changed(step, place)
        component(there)
        return there
    images = changed(images, place)
    if subject.kind == "encoder":
        return Step(component(images), encoder=component, batch=images)
    encoder = Plain()
    put(encoder, place)
    step = Step(encoder(images), encoder=encoder, batch=images, miner=component)
    _ = step.triplets
    return step


def _encoded(encoder: Encoder, images: Batch) -> dict[str, Tensor]:
    features: Features = encoder(images)
    entries = {**features.rows, **features.images}
    results = {"embedding": features.embedding, "vector": features.vector, "source": features.source, "view": features.view, **entries}
    results["distances"] = encoder.distances(features)
    if not encoder.training:
        results |= {"query_vectors": encoder.query_vectors(images), "gallery_vectors": encoder.gallery_vectors(images)}
    return results


def _losses(component: Loss, step: Step) -> dict[str, Tensor]:
    results = loss.terms(component, step)
    if isinstance(component, AdversarialLoss):
        value = component.discriminator_loss(step)
        results = results | {f"discriminator's {name}": v for name, v in (value if isinstance(value, dict) else {"loss": value}).items()}
    return results | ({"logits": component.logits(step.features)} if isinstance(component, Classifier) else {})
