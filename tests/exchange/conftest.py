"""Fixtures: no check of annotations, a Hub on this machine, and a small pipeline."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import jaxtyping
import pytest
from huggingface_hub import constants
from tests.exchange.hub_server import TOKEN, Hub, running

from sbirlib import build
from sbirlib.pipeline import Pipeline


@pytest.fixture(autouse=True)
def unchecked() -> Iterator[None]:
    """Annotations of tensors are not checked while a test runs, for a graph is traced with symbols in the place of numbers."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub that huggingface_hub speaks to, with an empty cache and a token; storage by xet is off."""
    with running() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(
            "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", constants.HUGGINGFACE_CO_URL_TEMPLATE, raising=False
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        huggingface_hub.close_session()
        yield server


@pytest.fixture
def pipeline() -> Pipeline:
    return build("mathm", encoder={"backbone": "test_resnet", "pretrained": False, "dim": 8}, transform={"size": 32})
