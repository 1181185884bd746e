"""Models and indexes: `load` a saved pipeline or an untrained recipe, `open_index` with the encoder that made it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sbirlib import recipe_file, registry
from sbirlib.errors import InputError, nearest
from sbirlib.files import is_file
from sbirlib.hub import hub_file, is_hub_name
from sbirlib.pipeline import Pipeline, build
from sbirlib.plugins import announce
from sbirlib.recipe import Recipe
from sbirlib.retrieval.indexes.base import read_index
from sbirlib.retrieval.indexes.manifest import read_manifest
from sbirlib.search import SearchIndex
from sbirlib.sync.source import STEM
from sbirlib.training import checkpoint
from sbirlib.training.allocation import limited_to
from sbirlib.training.tower import read_towers, with_towers

logger = logging.getLogger(__name__)


def load(model: str | Path, **objects: Any) -> Pipeline:
    """A pipeline as it was saved, exported or checkpointed; or, by a recipe's name or TOML file, as it is before any training.

    A saved one is a file, or on the Hugging Face Hub ("hf:owner/name"). Components that were objects are handed over again by their places in the
    recipe: `load(file, miner=..., **{"losses.mine": ...})`. For a file nothing is fetched, unless it was exported without its tower: that comes from
    the recipe's source, or another file, `load(file, **{"encoder.encoder.weights": path})`, and is held against its digest. A recipe is changed by
    the same keywords, as in `build`; its pretrained weights are fetched, or read from their file, at first use.

    >>> load("clip", **{"encoder.pretrained": False}).encoder.dim
    768
    """
    if not isinstance(model, str | Path):
        raise InputError(f"a model = {model!r}: expected the path of a file, or a recipe's name")
    if is_hub_name(model):
        return _saved(hub_file(model), objects)
    if recipe_file.names_recipe(model):
        return _untrained(str(model), objects)
    if not Path(model).suffix and not is_file(model):
        raise InputError(f"{str(model)!r} is neither the file of a model nor a recipe{nearest(str(model), registry.list_parts('recipe'))}")
    return _saved(model, objects)


def _untrained(name: str, changes: dict[str, Any]) -> Pipeline:
    pipeline = build(name, **changes)
    if any(phase.steps for phase in pipeline.recipe.phases):
        logger.warning("the recipe %s has phases to train, and none was: train it first (sbirlib train %s), and give its model", name, name)
    return pipeline


def _saved(path: str | Path, objects: dict[str, Any]) -> Pipeline:
    tensors, about = checkpoint.read_model(path)
    towers = about.towers or {}
    files = {place: file for place, file in objects.items() if towers and place.endswith(".weights")}
    recipe = Recipe.of(recipe_file.with_objects(about.recipe, {place: value for place, value in objects.items() if place not in files}))
    announce(recipe, path)
    further = read_towers(towers, files, about.recipe, path)
    with limited_to(tensors, path, further=further, count=sum(tower.tensors for tower in towers.values())):
        pipeline = Pipeline(recipe, categories=about.categories)
        pipeline.chosen, pipeline.data, pipeline.stroke_width = about.chosen, about.data, about.stroke_width
        if not about.exported and about.categories:  # a pipeline that was never trained has no losses yet
            pipeline.make_losses(about.categories, about.instances)
    tensors = with_towers(tensors, towers, files, pipeline.encoder, path)
    try:
        if about.exported:
            pipeline.encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in tensors.items()})
        else:
            pipeline.model.load_state_dict(checkpoint.of_model(tensors))
    except RuntimeError as error:
        raise InputError(f"{path} does not fit the recipe it carries ({str(error)[:500]}): was a plugin's version another?") from error
    return pipeline


def open_index(folder: str | Path, *, verify: bool | None = None) -> SearchIndex:
    """An index as `Pipeline.index(...).save(folder)` left it, with the encoder that made it.

    Raises InputError for a file that is missing or damaged. Vectors are held against their digests where `verify`, or all files together have
    at most 256 MiB; a larger index is opened without reading them.
    """
    about = read_manifest(folder)
    if about.model is None or about.encoder is None:
        raise InputError(f"{folder} holds vectors but no encoder: open it with `read_index`, or index the photos with Pipeline.index")
    index, model = read_index(folder, verify=verify), Path(folder) / about.model
    pipeline = load(model)
    digest = pipeline.encoder_digest()
    if digest != about.encoder:
        raise InputError(f"{model} is not the encoder that made this index ({about.encoder[:12]}): index the photos again")
    sources = next((name for name in about.files if name.startswith(f"{STEM}-")), None)
    return SearchIndex(
        pipeline.encoder,
        pipeline.transform,
        index,
        digest=digest,
        export=pipeline.export,
        stroke_width=pipeline.stroke_width,
        expansion=pipeline.recipe.expansion,
        model=about.model,
        sources=sources,
    )
