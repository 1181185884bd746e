"""Models without their tower: pretrained weights that training left as they were, named by their digest and read from their source again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sbirlib.encoders.backbone import Backbone
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoder
from sbirlib.recipe import Recipe
from sbirlib.training import checkpoint
from sbirlib.training.description import Tower
from sbirlib.training.interpolation import holds_object, untrained
from sbirlib.training.model import Model

Tensors = dict[str, Tensor]


def without_tower(tensors: Mapping[str, Tensor], recipe: Recipe) -> tuple[Tensors, Tower]:
    """The encoder's tensors, of any shape by name, but for those that are still the pretrained ones, bit for bit; and what describes these.

    Raises InputError where there is none.
    """
    if holds_object(recipe.encoder):
        raise InputError(
            "the encoder has parts that were handed over as objects, whose weights have no source to be read from: export it whole"
        )
    published = {f"encoder.{name}": tensor for name, tensor in _published(untrained(recipe)).items()}
    tower = {name: tensor for name, tensor in published.items() if name in tensors and torch.equal(tensors[name], tensor)}
    if not tower:
        raise InputError("no pretrained weight of this model is as it was before training: export it whole")
    rest = {name: tensor for name, tensor in tensors.items() if name not in tower}
    return rest, Tower(digest=_digest(tower), tensors=len(tower), bytes=sum(tensor.nbytes for tensor in tower.values()))


def with_tower(tensors: Mapping[str, Tensor], about: Tower, encoder: Encoder, path: object) -> Tensors:
    """The tensors of a model, of any shape by name, and those of its tower, which the encoder has from its source.

    Raises InputError where the source has others than the model was trained from.
    """
    Model(encoder).load_weights()
    tower = {f"encoder.{name}": tensor for name, tensor in _published(encoder).items() if f"encoder.{name}" not in tensors}
    if _digest(tower) != about.digest:
        raise InputError(
            f"{path} names its tower by a digest ({about.digest[:12]}), and the pretrained weights that were read are others "
            f"({_digest(tower)[:12]}): give the file that it was trained from, by load(FILE, **{{'encoder.weights': PATH}}) "
            "or --set encoder.weights=PATH (the key is where its backbone stands in the recipe)"
        )
    return {**tensors, **tower}


def _published(encoder: Encoder) -> Tensors:
    """The tensors, of any shape by name, of those backbones whose weights come from a source."""
    backbones = {path: module for path, module in encoder.named_modules() if isinstance(module, Backbone) and module.published}
    return {
        f"{path}.backbone.{name}".lstrip("."): tensor
        for path, module in backbones.items()
        for name, tensor in module.backbone.state_dict().items()
    }


def _digest(tensors: Tensors) -> str:
    return checkpoint.digest(tensors, {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in tensors.items()})
