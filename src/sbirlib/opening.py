"""Saved pipelines and indexes: `load` a model, `open_index` with the encoder that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sbirlib import recipe_file
from sbirlib.errors import InputError
from sbirlib.pipeline import Pipeline
from sbirlib.plugins import announce
from sbirlib.recipe import Recipe
from sbirlib.retrieval.indexes.base import read_index
from sbirlib.retrieval.indexes.manifest import read_manifest
from sbirlib.search import SearchIndex
from sbirlib.training import checkpoint
from sbirlib.training.allocation import limited_to


def load(path: str | Path, **objects: Any) -> Pipeline:
    """A pipeline as it was saved, exported or checkpointed; nothing is fetched.

    Components that were objects are handed over again by their places in the recipe: `load(path, miner=..., **{"losses.mine": ...})`.
    """
    tensors, about = checkpoint.read_model(path)
    recipe = Recipe.of(recipe_file.with_objects(about.recipe, objects))
    announce(recipe, path)
    with limited_to(tensors, path):
        pipeline = Pipeline(recipe, categories=about.categories)
        pipeline.chosen = about.chosen
        if not about.exported and about.categories:  # a pipeline that was never trained has no losses yet
            pipeline.make_losses(about.categories, about.instances)
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
    return SearchIndex(pipeline.encoder, pipeline.transform, index, digest=digest, export=pipeline.export, model=about.model)
