"""The photos that come back: filtered, scrolled, seen large, searched on from, and calm when something is missing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.serve.browser.gallery import COUNT, NOTE, running
from tests.serve.browser.hands import CIRCLE, SQUARE, begins, body, draw, expect_first, scroll_to

from sbirlib.search import SearchIndex
from sbirlib.serve import app
from sbirlib.serve.limits import Limits

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

SECRET = "a-token-of-the-tests-alone"


def labels(page: Page) -> list[str]:
    """The accessible names of all photos, in their order."""
    names: list[str] = page.locator(".card-photo").evaluate_all("cards => cards.map((card) => card.getAttribute('aria-label'))")
    return names


def open_first(page: Page, name: str) -> None:
    """Draw a circle, and open the named photo large."""
    draw(page, CIRCLE)
    expect_first(page, "circle")
    page.get_by_role("button", name=re.compile(rf"^Photo \d+: shape, {name}\.png")).click()
    page.get_by_role("dialog").get_by_role("heading", name=f"{name}.png").wait_for()


def test_filters_narrow_and_are_taken_away(page: Page) -> None:
    draw(page, CIRCLE)
    page.get_by_text(f"{COUNT} photos, best first").wait_for()
    assert page.locator(".feedback, #feedback-note:visible").count() == 0  # this server keeps none
    page.keyboard.press("/")
    page.keyboard.press("Enter")
    search = page.get_by_role("searchbox", name="Search in Category")
    search.fill("cat0")
    assert page.locator(".filter[open] li:visible").count() == 10
    search.fill("cat07")
    with page.expect_request(begins) as request:
        search.press("Enter")  # the only one that is left
    assert body(request.value)["where"] == {"category": ["cat07"]}
    page.get_by_text("2 photos, best first").wait_for()
    assert all("cat07" in label for label in labels(page))
    page.keyboard.press("Escape")
    page.locator("summary", has_text="Year").click()
    with page.expect_request(begins) as request:
        page.get_by_role("checkbox", name="2001").check()
    assert body(request.value)["where"] == {"category": ["cat07"], "year": [2001]}
    assert page.locator("summary .badge:visible").all_inner_texts() == ["1", "1"]
    assert page.locator(".filter[open]").count() == 1
    assert page.locator("summary", has_text="Note").count() == 0  # one value alone filters nothing
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_text(f"{COUNT} photos, best first").wait_for()


def test_scrolling_brings_all_photos_once_and_in_order(address: str, open_page: Callable[..., Page]) -> None:
    page = open_page(address, viewport={"width": 390, "height": 700})
    draw(page, CIRCLE)
    page.get_by_text(f"24 of {COUNT} photos, best first").wait_for()
    assert len(labels(page)) == 24
    scroll_to(page, "That is all.")
    ranks = [int(re.findall(r"\d+", label)[0]) for label in labels(page)]
    assert ranks == list(range(1, COUNT + 1))
    page.get_by_text(f"{COUNT} photos, best first").wait_for()
    page.evaluate("scrollTo(0, 0)")
    draw(page, SQUARE)
    page.get_by_text(f"24 of {COUNT} photos, best first").wait_for()
    page.set_viewport_size({"width": 1200, "height": 3000})  # room for all of them
    page.get_by_text("That is all.").wait_for()


def test_limits_and_wishes_that_are_told_after_the_photos_are_followed(
    page: Page, serve: Callable[..., str], tmp_path: Path, open_page: Callable[..., Page]
) -> None:
    draw(page, CIRCLE)
    expect_first(page, "circle")
    fragment = page.url.partition("#")[2]
    address = serve(limits=Limits(depth=26), feedback=tmp_path / "feedback.jsonl")
    other = open_page(address)
    held: list[Route] = []
    other.route("**/about", lambda route: held.append(route))
    other.goto(f"{address}?again#{fragment}")
    expect_first(other, "circle")
    assert other.locator(".feedback").count() == 0
    held[0].continue_()
    other.get_by_text("Your yes or no is kept, with your drawing").wait_for()
    scroll_to(other, "These are the best 26.")
    assert len(labels(other)) == 26


def test_a_photo_is_seen_large_with_its_record(page: Page) -> None:
    open_first(page, "circle")
    dialog = page.get_by_role("dialog")
    record = dict(zip(dialog.locator("dt").all_inner_texts(), dialog.locator("dd").all_inner_texts(), strict=True))
    assert record["note"] == NOTE  # as text
    assert (record["place"], record["category"]) == ("1", "shape")
    assert re.fullmatch(r"0\.\d{3}", record["score"])
    assert dialog.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 96
    assert dialog.get_by_role("button", name="Previous photo").get_attribute("aria-disabled") == "true"
    page.keyboard.press("ArrowRight")
    assert page.locator("#photo-name").inner_text() != "circle.png"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#photo-name").inner_text() == "circle.png"
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert str(page.evaluate("document.activeElement.ariaLabel")).startswith("Photo 1")


def test_photos_like_a_photo_and_the_way_back(page: Page) -> None:
    open_first(page, "square")
    with page.expect_request(begins) as request:
        page.get_by_role("button", name="More like this photo").click()
    assert "drawing" not in body(request.value)
    expect_first(page, "square")
    page.get_by_text("Photos like square.png").wait_for()
    link = page.url
    page.get_by_role("button", name="Back to the plain search").click()
    expect_first(page, "circle")
    page.goto("about:blank")
    page.goto(link)
    expect_first(page, "square")


def test_a_photo_as_one_draws_by_shares(page: Page) -> None:
    open_first(page, "square")
    with page.expect_request(begins) as request:
        page.get_by_role("button", name="This photo, but as I draw now").click()
    assert (body(request.value)["share"], len(body(request.value)["drawing"]["strokes"])) == (0.5, 1)
    slider = page.get_by_role("slider", name="Share of the drawing")
    for share, name in (("95", "circle"), ("5", "square"), ("0", "square")):
        with page.expect_request(begins) as request:
            slider.fill(share)
        assert body(request.value).get("share", 0) == float(share) / 100
        expect_first(page, name)
    with page.expect_request(begins) as request:  # whoever draws on wants to see a difference
        draw(page, [(0.4, 0.5), (0.6, 0.5)])
    assert (body(request.value)["share"], len(body(request.value)["drawing"]["strokes"])) == (0.5, 2)
    page.keyboard.press("Delete")
    page.get_by_text("Draw something, and it is mixed in.").wait_for()
    assert slider.is_hidden()
    expect_first(page, "square")


def test_the_answer_of_an_old_drawing_is_never_shown(page: Page) -> None:
    ends: list[str] = []
    page.on("requestfailed", lambda request: ends.append(str(request.failure)))

    def hold(route: Route) -> None:
        if len(body(route.request)["drawing"]["strokes"]) > 1:
            route.continue_()

    page.route("**/search", hold)  # the first search never ends by itself
    with page.expect_request(begins):
        draw(page, CIRCLE)
    page.locator(".skeleton").first.wait_for(state="attached")
    draw(page, [(0.5, 0.4), (0.5, 0.6)])
    expect_first(page, "circle")
    assert ends == ["net::ERR_ABORTED"]
    assert page.locator(".skeleton").count() == 0


def test_a_photo_whose_file_is_gone_keeps_its_place_in_words(
    page: Page, photos: Path, tmp_path: Path, tolerated: set[str], request: pytest.FixtureRequest
) -> None:
    tolerated.add("410 (Gone)")
    file, backup = photos / "shape" / "square.png", tmp_path / "square.png"
    shutil.move(file, backup)
    request.addfinalizer(lambda: shutil.move(backup, file))
    open_first(page, "square")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("This photo is no longer there.").wait_for()
    page.keyboard.press("ArrowLeft")
    dialog.locator(".frame:not(.loading) img").wait_for()
    page.keyboard.press("Escape")
    page.locator("#grid").get_by_text("This photo is no longer there.").wait_for()
    page.get_by_role("button", name=re.compile(r"shape, square\.png")).click()
    page.get_by_role("button", name="More like this photo").click()
    page.locator("#message", has_text="This photo is no longer there.").wait_for()
    page.get_by_role("button", name="Back to the plain search").click()
    expect_first(page, "circle")


def test_a_server_that_goes_away_and_comes_back(
    index: SearchIndex, tmp_path: Path, open_page: Callable[..., Page], tolerated: set[str]
) -> None:
    tolerated.update(["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"])
    application = app(index, cache=tmp_path / "cache")
    with running(application) as address:
        page = open_page(address)
        page.locator("summary").first.wait_for()
    draw(page, CIRCLE)
    page.get_by_text("The server does not answer.").wait_for()
    with page.expect_event("requestfailed"):
        draw(page, [(0.5, 0.4), (0.5, 0.6)])
    with running(application, int(address.rstrip("/").rpartition(":")[2])):
        expect_first(page, "circle")
        page.get_by_text("The server does not answer.").wait_for(state="detached")
        page.locator(".frame:not(.loading) img").first.wait_for()


def test_a_busy_server_is_asked_again(page: Page, tolerated: set[str]) -> None:
    tolerated.add("503 (Service Unavailable)")
    answers = [503, 503]

    def refuse(route: Route) -> None:
        if answers:
            route.fulfill(status=answers.pop(), headers={"Retry-After": "0.3"}, json={"detail": "busy"})
        else:
            route.continue_()

    page.route("**/search", refuse)
    draw(page, CIRCLE)
    page.get_by_text("The server is busy.").wait_for()
    expect_first(page, "circle")
    assert answers == []
    assert page.locator("#notice").inner_text() == ""


def test_further_photos_that_were_refused_can_be_asked_for_again(page: Page, tolerated: set[str]) -> None:
    tolerated.add("500 (Internal Server Error)")
    refusals = [500]

    def refuse(route: Route) -> None:
        if body(route.request)["offset"] and refusals:
            route.fulfill(status=refusals[0], json={"detail": "No further photos now."})
        else:
            route.continue_()

    page.route("**/search", refuse)
    draw(page, CIRCLE)
    expect_first(page, "circle")
    scroll_to(page, "No further photos now.")
    page.get_by_role("button", name="Show more").wait_for()
    refusals.clear()
    page.locator("#more").evaluate("button => button.click()")  # hidden by now where the wheel, still turning, has asked again
    page.locator("#message", has_text="No further photos now.").wait_for(state="hidden")
    scroll_to(page, "That is all.")
    assert len(labels(page)) == COUNT


def test_a_missing_token_is_named(serve: Callable[..., str], open_page: Callable[..., Page], tolerated: set[str]) -> None:
    tolerated.add("401 (Unauthorized)")
    address = serve(token=SECRET)
    page = open_page(f"{address}?token={SECRET}")
    assert page.url == address
    draw(page, CIRCLE)
    expect_first(page, "circle")
    page.context.clear_cookies()
    draw(page, [(0.5, 0.4), (0.5, 0.6)])
    page.locator("#message", has_text="Open the address that the server printed when it started.").wait_for()


def test_yes_and_no_are_kept_where_the_server_wants_them(serve: Callable[..., str], tmp_path: Path, open_page: Callable[..., Page]) -> None:
    file = tmp_path / "feedback.jsonl"
    page = open_page(serve(feedback=file))
    draw(page, CIRCLE)
    expect_first(page, "circle")
    page.get_by_text("Your yes or no is kept, with your drawing").wait_for()
    yes = page.get_by_role("button", name="Yes: I drew this, shape, circle.png")
    with page.expect_response("**/feedback") as response:
        yes.click()
    assert response.value.status == 204
    assert yes.get_attribute("aria-pressed") == "true"
    line: dict[str, Any] = json.loads(file.read_text())
    assert (line["answer"], Path(line["path"]).name, len(line["drawing"]["strokes"])) == ("yes", "circle.png", 1)
    draw(page, [(0.5, 0.4), (0.5, 0.6)])
    expect_first(page, "circle")
    page.locator('.feedback [aria-pressed="true"]').first.wait_for(state="detached")  # another drawing, another answer
