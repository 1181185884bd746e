"""Pictures of drawings on the sheet: dropped, pasted, chosen; and the link that brings a drawing back."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageDraw
from tests.serve.browser.hands import CIRCLE, SQUARE, begins, darkness, draw, expect_first, strokes

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

GIVE = """([kind, bytes, type]) => {
    const file = new File([Uint8Array.from(atob(bytes), (char) => char.charCodeAt(0))], "drawing", { type });
    const data = new DataTransfer();
    data.items.add(file);
    const drop = () => new DragEvent(kind, { dataTransfer: data, cancelable: true });
    document.dispatchEvent(kind === "paste" ? new ClipboardEvent(kind, { clipboardData: data }) : drop());
}"""


def arrow_left(width: int, height: int) -> bytes:
    """A PNG of a drawing on a large sheet: an arrow to the left."""
    image = Image.new("L", (width, height), "white")
    line = [(0.92, 0.4), (0.45, 0.4), (0.45, 0.15), (0.08, 0.5), (0.45, 0.85), (0.45, 0.6), (0.92, 0.6), (0.92, 0.4)]
    ImageDraw.Draw(image).line([(x * width, y * height) for x, y in line], "black", width // 60)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def give(page: Page, kind: str, content: bytes, media: str = "image/png") -> None:
    """Drop or paste a file."""
    page.evaluate(GIVE, [kind, base64.b64encode(content).decode(), media])


@pytest.fixture
def page(page: Page) -> Page:
    """The page, with the pictures that it sends in `sent`: the browser's protocol does not tell the body of a blob."""
    page.evaluate("""() => {
        const { fetch } = window;
        window.sent = [];
        window.fetch = (path, options) => {
            if (options?.body instanceof Blob) window.sent.push(options.body);
            return fetch(path, options);
        };
    }""")
    return page


def size_sent(page: Page) -> list[int]:
    """Width and height of the picture that was sent last."""
    size: list[int] = page.evaluate("createImageBitmap(sent.at(-1)).then(({ width, height }) => [width, height])")
    return size


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_that_is_dropped_or_pasted_is_searched_for(page: Page, kind: str) -> None:
    with page.expect_request(begins) as search:
        give(page, kind, arrow_left(1200, 1200))
    assert search.value.headers["content-type"] == "image/webp"
    assert size_sent(page) == [1024, 1024]
    expect_first(page, "left")
    assert darkness(page, (0.7, 0.4)) > 0.8
    page.get_by_text("If you draw now, you start anew.").wait_for()
    page.keyboard.press("m")
    expect_first(page, "right")
    with page.expect_request(begins) as search:
        draw(page, CIRCLE)
    assert len(strokes(search.value)) == 1
    expect_first(page, "circle")
    assert page.get_by_text("If you draw now, you start anew.").count() == 0
    page.keyboard.press("Control+z")
    expect_first(page, "right")


def test_a_picture_is_chosen_and_filtered(page: Page, tmp_path: Path) -> None:
    (tmp_path / "wide.png").write_bytes(arrow_left(600, 300))
    with page.expect_request(begins) as search, page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Picture").click()
        chooser.value.set_files(tmp_path / "wide.png")
    assert search.value.method == "POST"
    assert size_sent(page) == [600, 300]
    assert darkness(page, (0.5, 0.1)) == 0  # it is shown in its shape, on white
    page.locator("summary", has_text="Category").click()
    with page.expect_request(begins) as search:
        page.get_by_role("checkbox", name="cat03").check()
    assert "where=category%3Dcat03" in search.value.url
    page.get_by_text("2 photos, best first").wait_for()


def test_what_is_no_picture_is_named(page: Page) -> None:
    give(page, "drop", b"some words", "text/plain")
    page.get_by_text("That is no picture.").wait_for()
    give(page, "drop", b"no image", "image/png")
    page.get_by_text("This picture cannot be read here.").wait_for()
    assert page.locator(".card").count() == 0


def test_a_link_restores_the_search_and_its_drawing_is_never_sent_by_it(address: str, open_page: Callable[..., Page]) -> None:
    page = open_page(address, permissions=["clipboard-read", "clipboard-write"])
    draw(page, SQUARE)
    page.locator("summary", has_text="Category").click()
    page.get_by_role("checkbox", name="shape").check()
    page.keyboard.press("Escape")
    page.get_by_text("5 photos, best first").wait_for()
    page.keyboard.press("e")
    with page.expect_request(begins) as search:
        draw(page, [(0.1, 0.2), (0.1, 0.8)])
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("The link is copied.").wait_for()
    link: str = page.evaluate("navigator.clipboard.readText()")
    assert len(link) < 200

    other = open_page(address)
    other.goto("about:blank")
    urls: list[str] = []
    other.on("request", lambda request: urls.append(request.url))
    with other.expect_request(begins) as restored:
        other.goto(link)
    for one, two in zip(strokes(search.value), strokes(restored.value), strict=True):
        assert one["erase"] == two["erase"]
        assert one["width"] == pytest.approx(two["width"], abs=1e-3)
        assert [x for point in one["points"] for x in point] == pytest.approx([x for point in two["points"] for x in point], abs=1e-3)
    expect_first(other, "square")
    other.get_by_text("5 photos, best first").wait_for()
    assert darkness(other, (0.9, 0.5)) > 0.9
    assert darkness(other, (0.1, 0.5)) == 0
    fragment = link.partition("#")[2]
    assert not any(fragment[:20] in url.partition("#")[0] for url in urls)


def test_a_damaged_link_opens_an_empty_page(page: Page, address: str) -> None:
    for i, fragment in enumerate(("d=AQD_____", "d=%", "d=AgAA", "where=[1", "where=null&like=", "d=AQAAgICAgAEB")):
        page.goto(f"{address}?{i}#{fragment}")
        page.get_by_text("Draw, and the photos come back.").wait_for()
        assert page.url == f"{address}?{i}"


def test_another_link_in_the_same_tab_is_followed(page: Page, address: str) -> None:
    draw(page, CIRCLE)
    expect_first(page, "circle")
    circle = page.url
    page.keyboard.press("Delete")
    page.get_by_text("Draw, and the photos come back.").wait_for()
    assert page.url == address
    page.goto(circle)
    expect_first(page, "circle")
