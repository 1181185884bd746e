"""Models without their towers: pretrained weights that training left as they were, named by their digest and read from their source again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sbirlib.encoders.backbone import Backbone, source_file
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoder
from sbirlib.recipe import Recipe
from sbirlib.training import checkpoint
from sbirlib.training.description import Tower
from sbirlib.training.interpolation import holds_object
from sbirlib.training.randomness import make_seeded

Tensors = dict[str, Tensor]
LEAST = 0.1  # share of a backbone's bytes below which what is as it was is no tower
RESAMPLED = "pos_embed"  # of a transformer: resampled for the size of its images, by arithmetic that may differ between machines


def without_towers(tensors: Mapping[str, Tensor], recipe: Recipe) -> tuple[Tensors, dict[str, Any]]:
    """The encoder's tensors, of any shape by name, but for those that are the pretrained ones, bit for bit; and their towers by module path.

    Raises InputError where no backbone has a tenth of its weights as they were.
    """
    if holds_object(recipe.encoder):
        raise InputError(
            "the encoder has parts that were handed over as objects, whose weights have no source to be read from: export it whole"
        )
    rest, towers = dict(tensors), {}
    for path, module in backbones_of(make_seeded(recipe.encoder, recipe.seed, "encoder")).items():
        module.load_weights()
        published = _published(path, module)
        tower = {name: tensor for name, tensor in published.items() if _equal(tensors.get(name), tensor)}
        if _size(tower) >= LEAST * _size(published):
            towers[path] = Tower(digest=_digest(tower), tensors=len(tower), bytes=_size(tower)).model_dump()
            rest = {name: tensor for name, tensor in rest.items() if name not in tower}
    if not towers:
        raise InputError("hardly any pretrained weight of this model is as it was before training: export it whole")
    return rest, towers


def read_towers(towers: Mapping[str, Tower], files: Mapping[str, Any], tables: Mapping[str, Any], path: object) -> int:
    """Bytes that the sources of a model's towers explain, before the model is made; `files` are the sources to take in place of the recipe's.

    Raises InputError for a source that is not there, and for a key of `files` that is none of a tower's.
    """
    keys = {_key(name): name for name in towers}
    for key in files:
        if key not in keys:
            raise InputError(f"{key!r} is not where {path} lacks weights, which is at {', '.join(map(repr, keys))}")
    size = 0
    for key, name in keys.items():
        table: Any = tables
        for step in name.split(".")[:-1]:
            table = table.get(step) if isinstance(table, Mapping) else None
        model = table.get("backbone") if isinstance(table, Mapping) else None
        if not isinstance(table, Mapping) or not isinstance(model, str):
            raise InputError(f"{path} leaves out the weights of {name}, where its recipe has no pretrained backbone: it is damaged")
        try:
            size += 2 * source_file(model, str(files.get(key, "")) or table.get("weights")).stat().st_size  # half precision becomes float32
        except InputError as error:
            raise InputError(f"{path} was exported without its tower, and {error}. {_elsewhere(key)}") from error
    return size


def with_towers(
    tensors: Mapping[str, Tensor], towers: Mapping[str, Tower], files: Mapping[str, Any], encoder: Encoder, path: object
) -> Tensors:
    """The tensors of a model, of any shape by name, and those of its towers, which the encoder's backbones have from their sources.

    Raises InputError where a source has others than the model was trained from.
    """
    whole, backbones = dict(tensors), backbones_of(encoder)
    for name, about in towers.items():
        if name not in backbones:
            raise InputError(f"{path} leaves out the weights of {name}, where its recipe has no pretrained backbone: it is damaged")
        module = backbones[name]
        module.weights = str(files.get(_key(name), "")) or module.weights
        module.load_weights()
        tower = {key: tensor for key, tensor in _published(name, module).items() if key not in tensors}
        if _digest(tower) != about.digest:
            raise InputError(
                f"{path} names its tower by a digest ({about.digest[:12]}), and the weights read for {name} are others ({_digest(tower)[:12]}). "
                f"{_elsewhere(_key(name))}"
            )
        whole |= tower
    return whole


def backbones_of(encoder: Encoder) -> dict[str, Backbone]:
    """The backbones whose weights come from a source, by the module path of their network in a model."""
    modules = encoder.named_modules(prefix="encoder")
    return {f"{path}.backbone": module for path, module in modules if isinstance(module, Backbone) and module.published}


def _published(path: str, module: Backbone) -> Tensors:
    return {f"{path}.{name}": tensor for name, tensor in module.backbone.state_dict().items() if not name.endswith(RESAMPLED)}


def _equal(own: Tensor | None, other: Tensor) -> bool:
    """Whether two tensors of any shape have the same bits."""
    if own is None or own.shape != other.shape or own.dtype != other.dtype:
        return False
    return torch.equal(*(tensor.cpu().contiguous().flatten().view(torch.uint8) for tensor in (own, other)))


def _size(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _digest(tensors: Tensors) -> str:
    return checkpoint.digest(tensors, {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in tensors.items()})


def _key(path: str) -> str:
    return f"{path.removesuffix('.backbone')}.weights"


def _elsewhere(key: str) -> str:
    return f"Give the file that it was trained from: load(FILE, **{{{key!r}: PATH}}), or --set {key}=PATH"
