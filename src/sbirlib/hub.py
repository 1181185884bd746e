"""Models on the Hugging Face Hub by name: `hf:owner/name`, or `hf:owner/name@revision`."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

from sbirlib.errors import InputError, without_secrets

logger = logging.getLogger(__name__)
PREFIX = "hf:"
MODEL = "model.safetensors"  # a model's file in its repository
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
PROBE_SECONDS = 5.0
ACCESS = "check the name; a private repository needs a token (`hf auth login`, or the environment variable HF_TOKEN)"


def is_hub_name(name: str | Path) -> bool:
    """Whether a model is named as one on the Hub."""
    return Path(name).as_posix().startswith(PREFIX)


def hub_file(name: str | Path) -> Path:
    """The file of a model `hf:owner/name[@revision]` on this machine, downloaded unless the Hub's cache holds the same.

    Only the file `model.safetensors` is fetched, by huggingface_hub, under its environment variables (HF_HOME, HF_ENDPOINT, HF_TOKEN,
    HF_HUB_OFFLINE). Where the Hub cannot be reached, the copy in the cache serves. Raises InputError where there is none, and where the Hub
    refuses: one request decides that, because the client's own retries take most of a minute.
    """
    repository, revision = _read(Path(name).as_posix())
    url = huggingface_hub.hf_hub_url(repository, MODEL, revision=revision)
    try:
        huggingface_hub.get_hf_file_metadata(url, timeout=PROBE_SECONDS)
        return Path(huggingface_hub.hf_hub_download(repository, MODEL, revision=revision))
    except Exception as error:  # versions of the client raise different classes
        refused = isinstance(error, HfHubHTTPError) and error.response is not None and error.response.status_code < 500
        cached = None if refused else huggingface_hub.try_to_load_from_cache(repository, MODEL, revision=revision)
        if isinstance(cached, str):
            logger.info("%s could not be had (%s): its copy in the cache is used", url, type(error).__name__)
            return Path(cached)
        way = ACCESS if refused else f"fetch it where there is a network, by `hf download {repository} {MODEL}`, and give the file's path"
        raise InputError(f"{name} cannot be had from {url} ({in_words(error)}): {way}") from error


def check_repository(repository: str) -> None:
    """Raise InputError unless the name is one of a repository."""
    if not REPOSITORY.fullmatch(repository):
        raise InputError(f"{repository[:200]!r} names no repository of the Hub: expected owner/name")


def in_words(error: Exception) -> str:
    """An exception of the client on one line, with its class, without tokens."""
    return f"{type(error).__name__}: {' '.join(without_secrets(error).split())[:500]}"


def _read(name: str) -> tuple[str, str | None]:
    """Repository and revision of `hf:owner/name[@revision]`."""
    repository, at, revision = name.removeprefix(PREFIX).partition("@")
    check_repository(repository)
    if at and not revision:
        raise InputError(f"{name[:200]!r} ends in @: name a revision (a branch, a tag or a commit) after it, or leave out the @")
    return repository, revision or None
