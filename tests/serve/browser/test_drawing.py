"""Drawing on the page: by mouse, finger, pen and keyboard, with every tool, and the right photo comes back first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tests.serve.browser.gallery import ARROW
from tests.serve.browser.hands import CIRCLE, SQUARE, TRIANGLE, Line, begins, darkness, draw, expect_first, place, strokes, until

from sbirlib.data.strokes import USUAL_WIDTH

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.mark.parametrize(("line", "name"), [(CIRCLE, "circle"), (SQUARE, "square"), (TRIANGLE, "triangle")])
def test_a_shape_that_is_drawn_finds_its_photo(page: Page, line: Line, name: str) -> None:
    with page.expect_request(begins) as search:
        draw(page, line)
    expect_first(page, name)
    (stroke,) = strokes(search.value)
    assert stroke["width"] == pytest.approx(USUAL_WIDTH)
    assert stroke["erase"] is False
    assert len(stroke["points"]) <= len(line)


def test_undo_redo_and_clear(page: Page) -> None:
    draw(page, CIRCLE)
    expect_first(page, "circle")
    with page.expect_request(begins):
        draw(page, [(0.2, 0.2), (0.8, 0.8)])
    with page.expect_request(begins) as search:
        page.keyboard.press("Control+z")
    assert len(strokes(search.value)) == 1
    with page.expect_request(begins) as search:
        page.get_by_role("button", name="Redo").click()
    assert len(strokes(search.value)) == 2
    assert darkness(page, (0.5, 0.5)) > 0.9
    page.keyboard.press("Delete")
    page.get_by_text("Draw, and the photos come back.").wait_for()
    assert page.locator(".card").count() == 0
    assert darkness(page, (0.5, 0.5)) == 0
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Undo").click()
    expect_first(page, "circle")
    assert page.get_by_role("button", name="Redo").get_attribute("aria-disabled") == "false"
    with page.expect_request(begins) as search:
        draw(page, [(0.2, 0.8), (0.8, 0.2)])
    assert len(strokes(search.value)) == 2
    assert page.get_by_role("button", name="Redo").get_attribute("aria-disabled") == "true"


def test_the_eraser_leaves_white_and_a_blank_sheet_is_named(page: Page) -> None:
    with page.expect_request(begins):  # which the next one is not to be taken for
        draw(page, [(0.4, 0.5), (0.6, 0.5)])
    assert darkness(page, (0.5, 0.5)) > 0.9
    page.keyboard.press("e")
    with page.expect_request(begins) as search:
        draw(page, [(0.3, 0.5), (0.7, 0.5)])
    assert darkness(page, (0.5, 0.5)) == 0
    pen, eraser = strokes(search.value)
    assert (pen["erase"], eraser["erase"]) == (False, True)
    assert eraser["width"] > 3 * pen["width"]
    page.get_by_text("The drawing is blank: draw dark lines on the sheet.").wait_for()
    assert page.locator(".card").count() == 0


def test_the_width_follows_its_keys(page: Page) -> None:
    page.locator("#sheet").focus()
    for key in ("]", "]", "["):
        page.keyboard.press(key)
    with page.expect_request(begins) as search:
        draw(page, [(0.2, 0.2), (0.8, 0.8)])
    assert strokes(search.value)[0]["width"] == pytest.approx(USUAL_WIDTH * 2**0.5, abs=1e-4)


def test_mirror_flips_left_to_right(page: Page) -> None:
    draw(page, [*ARROW, ARROW[0]])
    expect_first(page, "right")
    page.keyboard.press("m")
    expect_first(page, "left")
    page.get_by_role("button", name="Mirror").click()
    expect_first(page, "right")


def test_a_stroke_that_leaves_the_sheet_is_kept_where_it_was_on_it(page: Page) -> None:
    with page.expect_request(begins) as search:
        draw(page, [(0.5, 0.8), (1.2, 0.8), (1.2, 0.2), (0.5, 0.2)])
    ends = [(stroke["points"][0], stroke["points"][-1]) for stroke in strokes(search.value)]
    assert ends == [
        ([pytest.approx(0.5, abs=0.01), pytest.approx(0.8, abs=0.01)], [1, pytest.approx(0.8, abs=0.01)]),
        ([1, pytest.approx(0.2, abs=0.01)], [pytest.approx(0.5, abs=0.01), pytest.approx(0.2, abs=0.01)]),
    ]
    page.keyboard.press("Control+z")
    page.get_by_text("Draw, and the photos come back.").wait_for()  # both parts were one stroke


def test_a_window_that_is_resized_keeps_the_stroke_that_is_drawn(page: Page) -> None:
    page.mouse.move(*place(page, (0.1, 0.5)))
    page.mouse.down()
    page.mouse.move(*place(page, (0.5, 0.5)), steps=5)
    page.set_viewport_size({"width": 900, "height": 700})
    until(page, "document.getElementById('sheet').width === document.getElementById('sheet').clientWidth")
    assert darkness(page, (0.3, 0.5)) > 0.9
    assert darkness(page, (0.3, 0.3)) == 0
    page.mouse.move(*place(page, (0.5, 0.5)))
    page.mouse.move(*place(page, (0.5, 0.9)), steps=5)
    with page.expect_request(begins) as search:
        page.mouse.up()
    (stroke,) = strokes(search.value)
    assert stroke["points"][-1] == [pytest.approx(0.5, abs=0.02), pytest.approx(0.9, abs=0.02)]
    assert darkness(page, (0.5, 0.7)) > 0.9


def test_a_finger_draws_and_a_second_one_does_not(address: str, open_page: Callable[..., Page]) -> None:
    page = open_page(address, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 800})
    devtools = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        places = [place(page, point) for point in points]
        devtools.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]}
        )

    touch("touchStart", CIRCLE[0])
    for point in CIRCLE[1:8]:
        touch("touchMove", point)
    touch("touchStart", CIRCLE[8], (0.5, 0.5))
    for i, point in enumerate(CIRCLE[9:]):
        touch("touchMove", point, (0.5, 0.5 + i / 100))
    touch("touchEnd", (0.5, 0.7))
    with page.expect_request(begins) as search:
        touch("touchEnd")
    assert len(strokes(search.value)) == 1
    expect_first(page, "circle")
    assert page.evaluate("scrollY") == 0
    touch("touchStart", (0.2, 0.2))
    touch("touchMove", (0.5, 0.5))
    touch("touchCancel")
    assert darkness(page, (0.4, 0.4)) == 0


def test_a_pen_draws_thick_where_it_is_pressed(page: Page) -> None:
    devtools = page.context.new_cdp_session(page)

    def pen(kind: str, point: tuple[float, float], force: float) -> None:
        x, y = place(page, point)
        common = {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1, "pointerType": "pen", "force": force}
        devtools.send("Input.dispatchMouseEvent", common)

    pen("mousePressed", (0.1, 0.5), 0.1)
    for i in range(1, 9):
        pen("mouseMoved", (0.1 + i / 10, 0.5), 0.1 + i / 10)
    with page.expect_request(begins) as search:
        pen("mouseReleased", (0.9, 0.5), 0)
    pressures = [point[2] for point in strokes(search.value)[0]["points"]]
    assert pressures[0] == pytest.approx(0.1, abs=0.01)
    assert pressures[-1] == pytest.approx(0.9, abs=0.01)
    assert darkness(page, (0.2, 0.5 + USUAL_WIDTH / 2)) < 0.5 < darkness(page, (0.85, 0.5 + USUAL_WIDTH / 2))


def test_a_keyboard_draws_alone(page: Page) -> None:
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "sheet":
            break
    assert page.locator("#mark").is_visible()

    def move(key: str, times: int) -> None:
        for _ in range(times):
            page.keyboard.press(key)

    move("ArrowLeft", 16)
    move("ArrowUp", 16)
    page.keyboard.press("Space")
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        move(key, 32)
    page.keyboard.down("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.up("ArrowRight")
    assert "Pen down at 10 % across, 10 % down." in page.locator("#live").inner_text()
    with page.expect_request(begins) as search:
        page.keyboard.press("Space")
    (stroke,) = strokes(search.value)
    assert [[round(x, 3), round(y, 3)] for x, y in stroke["points"]] == [
        [0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9], [0.1, 0.1], [0.125, 0.1], [0.15, 0.125]
    ]  # fmt: skip
    expect_first(page, "square")
    assert page.evaluate("scrollY") == 0
