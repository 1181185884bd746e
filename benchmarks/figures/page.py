"""Picture of the page that `sbirlib serve` opens: a drawing, and the photos that come back.

    make demo && .venv/bin/python -m benchmarks.figures.page docs/images/page.png      # needs chromium, and playwright of the extra `dev`

The index is that of the demonstration; the drawing is a sketch of the same synthetic set, of a category that training has not shown, drawn
stroke by stroke with the pointer.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from sbirlib import open_index
from sbirlib.data.synthetic import synthetic
from sbirlib.demo import DATA
from sbirlib.errors import InputError
from sbirlib.serve.notebook import Window

WINDOW = {"width": 1280, "height": 800}


def main() -> None:
    options = parse_options()
    browser = shutil.which("chromium")
    if browser is None:
        raise InputError("there is no chromium to draw with: install it (Debian: apt-get install chromium)")
    sketches = synthetic(**DATA).test.sketches
    lines = sketches.reader.strokes(int(sketches.index[options.sketch]))  # type: ignore[attr-defined]
    window = Window(open_index(options.index))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser)
        page = chromium.new_page(viewport=WINDOW, color_scheme="dark" if options.dark else "light")  # type: ignore[arg-type]
        page.goto(window.url)
        for line in lines:
            draw(page, line.tolist())
        page.mouse.move(0, 0)
        page.locator(".card-photo img").nth(11).wait_for()
        page.wait_for_timeout(1500)  # until pictures have faded in
        page.screenshot(path=options.out)
        chromium.close()
    window.close()
    print(f"{options.out}: a sketch of {sketches.categories[sketches.category[options.sketch]]}")


def draw(page: Page, line: list[list[float]]) -> None:
    """Draw a line of points [P, 2] in [0, 1]^2 with the pointer."""
    box = page.locator("#sheet").bounding_box()
    assert box is not None
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in line]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up()


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="file of the picture")
    parser.add_argument("--index", type=Path, default=Path("demo/index"))
    parser.add_argument("--sketch", type=int, default=0, help="number of a sketch of the unseen categories")
    parser.add_argument("--dark", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
