"""Pipelines as repositories of the Hugging Face Hub: one safetensors file and a card; nothing is pickled."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub

from sbirlib.errors import InputError
from sbirlib.exchange.card import model_card, read_evaluation
from sbirlib.files import atomic_write, is_file
from sbirlib.hub import ACCESS, MODEL, PREFIX, check_repository, hub_file, in_words
from sbirlib.opening import load
from sbirlib.pipeline import Pipeline
from sbirlib.training import checkpoint

CARD = "README.md"


def save_pretrained(
    pipeline: Pipeline,
    folder: str | Path,
    *,
    repository: str | None = None,
    licence: str | None = None,
    evaluation: str | Path | None = None,
) -> list[Path]:
    """Write a pipeline and its card into a folder, as a repository of the Hub holds them; a classifier's losses are included.

    The card names the `licence`, by the Hub's identifier such as "apache-2.0", and has the metrics of an `evaluation`, the JSON file of
    `sbirlib eval --out`. Raises InputError for an evaluation that is none.

    >>> [file.name for file in save_pretrained(pipeline, "pretrained", licence="apache-2.0")]
    ['model.safetensors', 'README.md']
    """
    metrics = None if evaluation is None else read_evaluation(str(evaluation))
    model, readme = (Path(folder) / name for name in (MODEL, CARD))
    encoder = pipeline.encoder_digest()
    (pipeline.save if pipeline.classifies else pipeline.export)(model)
    _, about = checkpoint.read_model(model)
    card = model_card(pipeline.recipe, about, encoder=encoder, repository=repository, licence=licence, evaluation=metrics)
    with atomic_write(readme) as partial:
        partial.write_text(card, encoding="utf-8")
    return [model, readme]


def from_pretrained(source: str | Path, **objects: Any) -> Pipeline:
    """A pipeline from the folder of `save_pretrained`, or from the Hub by `owner/name`, `owner/name@revision` or `hf:owner/name`.

    Components that were objects are handed over again, as in `load`.

    >>> from_pretrained("pretrained").recipe.name
    'mathm'
    """
    place = Path(source)
    if place.is_dir():
        return load(place / MODEL, **objects)
    return load(place if is_file(place) else hub_file(f"{PREFIX}{place.as_posix().removeprefix(PREFIX)}"), **objects)


def push_to_hub(
    pipeline: Pipeline,
    repository: str,
    *,
    private: bool = False,
    licence: str | None = None,
    evaluation: str | Path | None = None,
) -> str:
    """Upload a pipeline and its card to the Hub in one commit, whose address is returned; a repository that is not there is made.

    Raises InputError where the Hub cannot be reached or refuses, and for a public repository where `private` is asked for.
    """
    check_repository(repository)
    api = huggingface_hub.HfApi(library_name="sbirlib")
    with tempfile.TemporaryDirectory() as folder:
        files = save_pretrained(pipeline, folder, repository=repository, licence=licence, evaluation=evaluation)
        with _in_words(repository):
            api.create_repo(repository, private=private or None, exist_ok=True)
            if private and not api.model_info(repository).private:
                raise InputError(
                    f"{repository} is public, and the model is to be private: take another name, or make it private on the Hub first"
                )
            operations = [huggingface_hub.CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file) for file in files]
            commit = api.create_commit(repository, operations, commit_message=f"Model of the recipe {pipeline.recipe.name}")
    return str(commit.commit_url)


@contextlib.contextmanager
def _in_words(repository: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # versions of the client raise different classes
        raise InputError(
            f"{repository} could not be pushed to {huggingface_hub.constants.ENDPOINT} ({in_words(error)}): {ACCESS}"
        ) from error
