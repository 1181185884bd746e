"""Photos whose shapes a drawing can find, and the served index over them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import torch.nn.functional as F
import uvicorn
from fastapi import FastAPI
from PIL import Image, ImageDraw

from sbirlib.data.synthetic import synthetic
from sbirlib.data.transforms import Sbir
from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Encoder, Features
from sbirlib.retrieval.indexes.flat import Flat
from sbirlib.search import SearchIndex
from sbirlib.serve.server import listen

SIDE = 96  # pixels of a photo
POINTS = 16  # of a side of the pooled line map
ARROW = [(0.08, 0.4), (0.55, 0.4), (0.55, 0.15), (0.92, 0.5), (0.55, 0.85), (0.55, 0.6), (0.08, 0.6)]
POLYGONS = {
    "square": [(0.08, 0.08), (0.92, 0.08), (0.92, 0.92), (0.08, 0.92)],
    "triangle": [(0.5, 0.08), (0.92, 0.92), (0.08, 0.92)],
    "right": ARROW,
    "left": [(1 - x, y) for x, y in ARROW],
}
CATEGORIES, INSTANCES = 11, 2  # of the synthetic photos beside the shapes
COUNT = len(POLYGONS) + 1 + CATEGORIES * INSTANCES
NOTE = "<img src=x onerror=alert(1)>"  # a record is a stranger's text


class Lines(Encoder):
    """Line map of an image, blurred and pooled: where a drawing has its lines there a photo needs its edges."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = self.vector_dim = POINTS**2

    def forward(self, batch: Batch) -> Features:
        ink = 1 - batch.images.mean(1, keepdim=True)
        density = F.adaptive_avg_pool2d(F.avg_pool2d(ink, 5, 1, 2), POINTS).flatten(1).sqrt()
        return Features.of(batch, density - density.mean(1, keepdim=True))


def write_photos(folder: Path) -> dict[str, dict[str, Any]]:
    """Write the shapes, filled, and synthetic photos into a folder of categories; return the fields of each photo by path."""
    for name in ("circle", *POLYGONS):
        photo = Image.new("RGB", (4 * SIDE, 4 * SIDE), "#d8c8a0")
        draw = ImageDraw.Draw(photo)
        if name == "circle":
            draw.ellipse([0.08 * 4 * SIDE, 0.08 * 4 * SIDE, 0.92 * 4 * SIDE, 0.92 * 4 * SIDE], "#274060")
        else:
            draw.polygon([(4 * SIDE * x, 4 * SIDE * y) for x, y in POLYGONS[name]], "#274060")
        _save(photo.resize((SIDE, SIDE)), folder / "shape" / f"{name}.png")
    photos = synthetic(categories=CATEGORIES, unseen=2, instances=INSTANCES, size=SIDE).photos
    for i in range(len(photos)):
        _save(photos.read(i), folder / photos.categories[photos.category[i]] / f"{i}.png")
    files = sorted(folder.rglob("*.png"))
    return {str(file): {"year": 2000 + i % 3, **({"note": NOTE} if file.stem == "circle" else {})} for i, file in enumerate(files)}


def _save(photo: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    photo.save(path)


def index_photos(folder: Path) -> SearchIndex:
    """The index of the photos that `write_photos` writes."""
    fields = write_photos(folder)
    index = SearchIndex(Lines(), Sbir(size=64, photo_lines="canny"), Flat(), digest="lines", export=_refuse)
    index.add(folder, fields=fields, progress=False)
    return index


def _refuse(_: Path) -> None:
    raise InputError("the encoder of the tests is not saved")


@contextmanager
def running(application: FastAPI, port: int = 0) -> Iterator[str]:
    """The address of a server that runs the application in a thread until the block ends."""
    sock = listen("127.0.0.1", port)
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=1))
    thread = Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(10)
        sock.close()
