"""One browser and one served index for all tests of the page, and a page that tolerates no error and no foreign request."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.serve.browser.gallery import index_photos, running

from sbirlib.search import SearchIndex
from sbirlib.serve import app

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

PATIENCE = 8000  # milliseconds that an expectation may take on a busy machine


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        pytest.skip("no chromium (apt-get install chromium, or CHROMIUM=path) or no playwright (pip install playwright)")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> SearchIndex:
    return index_photos(tmp_path_factory.mktemp("gallery") / "photos")


@pytest.fixture(scope="session")
def address(browser: Browser, index: SearchIndex, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a server that runs as long as the tests do; `browser` comes first, so that without one nothing is indexed."""
    with running(app(index, cache=tmp_path_factory.mktemp("cache"))) as address:
        yield address


@pytest.fixture
def tolerated() -> set[str]:
    """Parts of console messages that a test provokes: the browser itself writes one for each answer that is an error."""
    return set()


@pytest.fixture
def serve(browser: Browser, index: SearchIndex, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Maker of servers with options of their own, each by its address."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(running(app(index, cache=tmp_path / "cache", **options)))


@pytest.fixture
def open_page(browser: Browser, serve: Callable[..., str], tolerated: set[str]) -> Iterator[Callable[..., Page]]:
    """Maker of pages, each in a context of its own, with options of the context. At the end no page may have had an error.

    It takes `serve`, so that pages are closed before their servers are.
    """
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def make(url: str, **options: Any) -> Page:
        context = browser.new_context(**{"reduced_motion": "reduce", "viewport": {"width": 1200, "height": 800}, **options})
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        _watch(context, "/".join(url.split("/")[:3]) + "/", faults)
        page = context.new_page()
        page.goto(url)
        return page

    yield make
    for context in contexts:
        context.close()
    assert not [fault for fault in faults if not any(part in fault for part in tolerated)]


def _watch(context: BrowserContext, origin: str, faults: list[str]) -> None:
    """Note every request elsewhere, uncaught error, rejected promise, and error or warning on the console."""

    def note_request(request: Request) -> None:
        if not request.url.startswith((origin, f"blob:{origin}", "data:")):
            faults.append(f"a request to {request.url}")

    def note_message(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            faults.append(f"{message.type}: {message.text}")

    context.on("request", note_request)
    context.on("console", note_message)
    context.on("weberror", lambda error: faults.append(f"an error: {error.error}"))


@pytest.fixture
def page(address: str, open_page: Callable[..., Page]) -> Page:
    return open_page(address)


@pytest.fixture
def photos(index: SearchIndex) -> Path:
    """The folder of the photos."""
    return Path(str(next(index.index.all_records())["path"])).parents[1]
