"""Hands on the page: drawing in unit coordinates, and reading of the photos that come back."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request

Line = list[tuple[float, float]]
CIRCLE: Line = [(0.5 + 0.4 * math.cos(t / 8 * math.pi), 0.5 + 0.4 * math.sin(t / 8 * math.pi)) for t in range(17)]  # a move takes a frame
SQUARE: Line = [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9), (0.1, 0.1)]
TRIANGLE: Line = [(0.5, 0.1), (0.9, 0.9), (0.1, 0.9), (0.5, 0.1)]


def place(page: Page, point: tuple[float, float]) -> tuple[float, float]:
    """Where a point of the sheet is in the window, in pixels."""
    box = page.locator("#sheet").bounding_box()
    assert box is not None
    return box["x"] + point[0] * box["width"], box["y"] + point[1] * box["height"]


def draw(page: Page, line: Line) -> None:
    """Draw a line with the mouse."""
    x, y = place(page, (0, 0))
    side = place(page, (1, 1))[0] - x
    page.mouse.move(*place(page, line[0]))
    page.mouse.down()
    for point in line[1:]:
        page.mouse.move(x + point[0] * side, y + point[1] * side)
    page.mouse.up()


def expect_first(page: Page, name: str) -> None:
    """Wait until the first photo is the named one."""
    from playwright.sync_api import expect

    expect(page.locator("#results")).not_to_have_class(re.compile("busy"))
    expect(page.locator(".card-photo").first).to_have_attribute("aria-label", re.compile(rf"Photo 1: .*\b{name}\.png"))


def until(page: Page, condition: str) -> None:
    """Wait until a condition holds on the page, which the content policy keeps Playwright from watching."""
    for _ in range(400):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(condition)


def scroll_to(page: Page, sentence: str) -> None:
    """Turn the wheel over the photos until the sentence is seen: one key may come before the page listens, and is not repeated."""
    page.locator("#results").hover()
    for _ in range(200):
        if page.get_by_text(sentence).is_visible():
            return
        page.mouse.wheel(0, 2000)
        page.wait_for_timeout(50)
    raise AssertionError(sentence)


def begins(request: Request) -> bool:
    """Whether a request begins a search, and is not for its further photos."""
    path, _, query = request.url.partition("?")
    if request.method != "POST" or not ("/search" in path or "/similar/" in path):
        return False
    return "offset=0" in query.split("&") if query else bool(body(request)["offset"] == 0)


def body(request: Request) -> dict[str, Any]:
    """The JSON that a request carried."""
    content: dict[str, Any] = json.loads(request.post_data or "null")
    return content


def strokes(request: Request) -> list[dict[str, Any]]:
    """The strokes of the drawing that a request carried."""
    drawing: list[dict[str, Any]] = body(request)["drawing"]["strokes"]
    return drawing


def darkness(page: Page, point: tuple[float, float]) -> float:
    """Ink of the sheet at a point, from 0 to 1, once what is drawn has been painted."""
    level: int = page.evaluate(
        """async ([x, y]) => {
            const frame = () => new Promise((done) => requestAnimationFrame(done));
            await frame();
            await frame();
            const sheet = document.getElementById("sheet");
            const copy = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
            copy.drawImage(sheet, -Math.floor(x * sheet.width), -Math.floor(y * sheet.height));
            return copy.getImageData(0, 0, 1, 1).data[0];
        }""",
        list(point),
    )
    return 1 - level / 255
