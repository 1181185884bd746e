"""The worlds of the synthetic set: photos and sketches of each, and below them its solution.

python -m benchmarks.figures.worlds docs/images/worlds.png
"""

from __future__ import annotations

import argparse

from PIL import Image

from sbirlib import synthetic
from sbirlib.data.synthetic.worlds import WORLDS

SIDE, EACH = 96, 6  # pixels; photos, and sketches, in a row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="file of the picture")
    sheet().save(parser.parse_args().out)


def sheet() -> Image.Image:
    """Two rows a world: three instances of two categories as photos, then as sketches; then the same of its solution."""
    rows = [(name, solution) for name in WORLDS for solution in (False, True)]
    picture = Image.new("RGB", (2 * EACH * SIDE, len(rows) * SIDE), "white")
    for y, (name, solution) in enumerate(rows):
        data = synthetic(categories=8, unseen=2, instances=3, sketches=1, size=SIDE, distractors=False, world=name, solution=solution)  # type: ignore[arg-type]
        images = [part.read(i) for part in (data.photos, data.sketches) for i in range(EACH)]
        for x, image in enumerate(images):
            picture.paste(image, (x * SIDE, y * SIDE))
    return picture


if __name__ == "__main__":
    main()
