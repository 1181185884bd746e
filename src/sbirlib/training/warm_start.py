"""Warm starts: a module's weights from a saved model, or between those of two models."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from sbirlib.errors import InputError, nearest
from sbirlib.hub import hub_file, is_hub_name
from sbirlib.interfaces import Encoder
from sbirlib.training import checkpoint
from sbirlib.training.interpolation import mixed
from sbirlib.training.model import Model


def warm_start(model: Model, path: str | Path, module: str) -> None:
    """Load one module's weights from a saved model. `module` is a module path, or two, ours:theirs, where they differ.

    Raises InputError where either model has no such module, or the two differ in shape.
    """
    ours, _, theirs = module.partition(":")
    own, (tensors, about) = find_module(model, ours), checkpoint.read_model(hub_file(path) if is_hub_name(path) else path)
    prefix = f"{theirs or ours}."
    for tower in about.towers or ():
        if f"{tower}.".startswith(prefix) or prefix.startswith(f"{tower}."):
            raise InputError(f"{path} was exported without the weights of {tower}: load it, and save or export it whole")
    state = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if not state:
        paths = {name.rpartition(".")[0] for name in checkpoint.of_model(tensors)}
        raise InputError(f"{path} has no module {prefix[:-1]!r}{nearest(prefix[:-1], paths)}")
    load_around(model, ours)
    try:
        own.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{module} of {path} does not fit this model's: build both with the same options ({error})") from error


def load_around(model: Model, path: str) -> None:
    """Load the pretrained weights of the encoder that a module is a layer of, which training would otherwise load over the module's."""
    names = path.split(".")
    modules = [model.get_submodule(".".join(names[:count])) for count in range(len(names), 0, -1)]
    encoder = next((module for module in modules if isinstance(module, Encoder)), None)
    if encoder is not None and encoder is not modules[0]:
        encoder.load_weights()


def interpolate(model: Model, other: Model, share: float, module: str) -> None:
    """Move one module's weights by `share` of the way, from 0 to 1, to those of another model (Wortsman et al. 2022).

    Raises InputError for a share outside [0, 1], and for modules that differ in shape.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share = {share}: expected a number from 0 to 1, the weight of the other model")
    other.load_weights()
    own, (ours, theirs) = find_module(model, module), (find_module(m, module).state_dict() for m in (model, other))
    if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
        raise InputError(f"the two models differ in {module}: build both with the same options")
    own.load_state_dict(mixed(ours, theirs, share))


def find_module(model: Model, path: str) -> nn.Module:
    """The module of that path, such as "encoder.backbone"."""
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        paths = [name for name, _ in model.named_modules() if name]
        raise InputError(f"this model has no module {path!r}{nearest(path, paths)}") from error
