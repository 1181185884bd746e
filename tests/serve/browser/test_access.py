"""The page for everyone: by axe-core's rules in light and dark, by keyboard, on a small phone."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
from tests.serve.browser.hands import CIRCLE, begins, draw, expect_first, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

RULES = "axe.run(document, { resultTypes: ['violations'] })"


def violations(page: Page) -> list[str]:
    """The rules that the page breaks as it is, with the elements."""
    result: dict[str, Any] = page.evaluate(RULES)
    return [f"{rule['id']}: {node['html']}: {node['failureSummary']}" for rule in result["violations"] for node in rule["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_no_complaint(address: str, open_page: Callable[..., Page], scheme: str) -> None:
    pytest.importorskip("axe_playwright_python", reason="no axe-core (pip install axe-playwright-python)")
    page = open_page(address, color_scheme=scheme, bypass_csp=True)  # the policy would stop axe, which is evaluated
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    page.locator("summary").first.wait_for()
    assert violations(page) == []
    draw(page, CIRCLE)
    page.locator(".frame:not(.loading) img").first.wait_for()
    assert violations(page) == []
    page.locator("summary").first.click()
    page.get_by_role("checkbox", name="shape").check()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    page.get_by_text("That is all.").wait_for()
    assert violations(page) == []
    page.locator(".card-photo").first.click()
    assert violations(page) == []
    page.get_by_role("button", name="This photo, but as I draw now").click()
    page.get_by_text("but as you draw").first.wait_for()
    assert violations(page) == []
    page.get_by_role("button", name="Help").click()
    assert violations(page) == []


def test_a_small_phone_scrolls_one_way_only(address: str, open_page: Callable[..., Page]) -> None:
    page = open_page(address, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)

    def fits() -> bool:
        return bool(page.evaluate("document.documentElement.scrollWidth <= 360"))

    assert fits()
    draw(page, CIRCLE)
    expect_first(page, "circle")
    assert fits()
    sheet, first = page.locator("#sheet").bounding_box(), page.locator(".card").first.bounding_box()
    assert sheet is not None
    assert first is not None
    assert sheet["width"] > 280
    assert first["y"] > sheet["y"] + sheet["height"]
    assert page.locator(".card").nth(1).bounding_box()["y"] == first["y"]  # type: ignore[index]
    for summary in page.locator("summary").all():
        summary.click()
        until(page, "document.querySelector('.filter[open] .panel').style.length > 0")  # it has been put below its button
        left, width, room = page.locator(".filter[open] .panel").evaluate("p => [p.offsetLeft, p.offsetWidth, p.offsetParent.clientWidth]")
        assert 0 <= left <= room - width
        assert fits()
        summary.click()
    page.locator(".card-photo").first.click()
    page.get_by_role("button", name="More like this photo").wait_for()
    assert fits()


def test_a_desktop_keeps_the_sheet_beside_the_photos(page: Page) -> None:
    draw(page, CIRCLE)
    expect_first(page, "circle")
    page.mouse.move(900, 600)
    page.mouse.wheel(0, 500)
    until(page, "scrollY > 100")
    sheet, grid = page.locator("#sheet").bounding_box(), page.locator("#grid").bounding_box()
    assert sheet is not None
    assert grid is not None
    assert sheet["x"] + sheet["width"] < grid["x"]
    assert 0 < sheet["y"] < 100


def test_keys_have_a_help_and_can_be_turned_off(page: Page, address: str) -> None:
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="How to draw")
    dialog.wait_for()
    page.keyboard.press("e")  # keys of the page rest while a dialog is open
    dialog.get_by_role("checkbox").uncheck()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    page.keyboard.press("e")
    assert page.locator("#pen").get_attribute("aria-pressed") == "true"
    page.goto(address + "?again")
    page.keyboard.press("e")
    assert page.locator("#pen").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Help").click()
    dialog.get_by_role("checkbox").check()
    page.mouse.click(5, 5)  # beside the dialog
    dialog.wait_for(state="hidden")
    page.keyboard.press("e")
    assert page.locator("#eraser").get_attribute("aria-pressed") == "true"


def test_keys_that_are_typed_into_a_field_do_nothing_else(page: Page) -> None:
    draw(page, CIRCLE)
    expect_first(page, "circle")
    page.locator("summary", has_text="Category").click()
    field = page.get_by_role("searchbox", name="Search in Category")
    field.press_sequentially("em[]/?")
    field.press("Backspace")
    field.press("Control+z")
    assert page.locator("#pen").get_attribute("aria-pressed") == "true"
    assert page.get_by_role("dialog").count() == 0
    assert page.get_by_role("button", name="Undo").get_attribute("aria-disabled") == "false"


def test_the_focus_is_visible_and_follows_a_search(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "results"
    assert page.url.endswith("/")  # the fragment is the drawing's
    draw(page, CIRCLE)
    expect_first(page, "circle")
    page.locator(".card-photo").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    with page.expect_request(begins):
        page.get_by_role("button", name="More like this photo").press("Enter")
    assert page.evaluate("document.activeElement.id") == "results"
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.locator("#count").get_attribute("role") == "status"
