"""Strokes: rendered like training sketches, and their width measured."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import ValidationError
from tests.conftest import figure

from sbirlib import build, load
from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import images
from sbirlib.data.split import split
from sbirlib.data.strokes import POINTS, Drawing, Stroke, render, stroke_width, usual_width
from sbirlib.data.transforms import Sbir
from sbirlib.interfaces import SKETCH
from sbirlib.serve import app

SMALL: dict[str, Any] = {
    "encoder": {"backbone": "resnet10t", "dim": 8, "pretrained": False},
    "transform": {"size": 32},
    "sampler": {"categories": 2, "per_modality": 2},
    "phases.0.steps": 2,
    "phases.0.parameters": [],
}


CENTRE, SHEET = Sbir(size=224), Sbir(size=256, sketch_fit="pad")
SIDE = 512  # of a sheet for the transform SHEET


def ring(x: float, y: float, radius: float, width: float) -> Drawing:
    angles = np.linspace(0, 2 * math.pi, 80)
    points = [[x + radius * math.cos(a), y + radius * math.sin(a)] for a in angles]
    return Drawing(strokes=[Stroke(points=points, width=width)])


@pytest.mark.parametrize("width", [0.015, 0.03, 0.06])
@pytest.mark.parametrize("radius", [0.05, 0.2, 0.45])
def test_lines_have_their_width_after_preparation_whatever_the_size_of_the_drawing(width: float, radius: float) -> None:
    pixels = CENTRE.prepare(render(ring(0.5, 0.5, radius, width), CENTRE), SKETCH)
    assert stroke_width(pixels) == pytest.approx(width, rel=0.2)


def test_a_whole_sheet_is_rendered_where_it_was_drawn() -> None:
    pixels = np.asarray(render(ring(0.25, 0.75, 0.1, 0.02), SHEET))
    rows, columns = np.nonzero(pixels < 128)
    assert pixels.shape == (SIDE, SIDE)
    assert (columns.min() / SIDE, columns.max() / SIDE) == pytest.approx((0.14, 0.36), abs=0.01)
    assert (rows.min() / SIDE, rows.max() / SIDE) == pytest.approx((0.64, 0.86), abs=0.01)


def test_strokes_are_painted_in_order_and_pressure_makes_them_wider() -> None:
    across: dict[str, Any] = {"points": [[0.1, 0.5], [0.9, 0.5]]}
    black = np.asarray(render(Drawing(strokes=[Stroke(**across, width=0.1)]), SHEET)) < 128
    erased = np.asarray(render(Drawing(strokes=[Stroke(**across, width=0.1), Stroke(**across, width=0.2, erase=True)]), SHEET))
    again = [Stroke(**across, width=0.2, erase=True), Stroke(**across, width=0.1)]
    assert (erased == 255).all()
    assert ((np.asarray(render(Drawing(strokes=again), SHEET)) < 128) == black).all()
    thick = {p: render(Drawing(strokes=[Stroke(points=[[0.1, 0.5, p], [0.9, 0.5, p]], width=0.1)]), SHEET) for p in (0.0, 0.5, 1.0)}
    heights = [int((np.asarray(image)[:, SIDE // 2] < 128).sum()) for image in thick.values()]
    assert heights == pytest.approx([0.05 * SIDE, 0.1 * SIDE, 0.15 * SIDE], abs=2)


def test_a_dot_a_blank_sheet_and_one_that_was_erased() -> None:
    dot = render(Drawing(strokes=[Stroke(points=[[0.5, 0.5]])]), CENTRE)
    assert np.asarray(dot).min() == 0
    for blank in (Drawing(strokes=[]), Drawing(strokes=[Stroke(points=[[0.1, 0.1], [0.9, 0.9]], erase=True)])):
        assert np.asarray(render(blank, CENTRE)).min() == 255
    assert stroke_width(torch.full((3, 64, 64), 255, dtype=torch.uint8)) == 0


def test_the_width_of_a_sketch_is_that_of_its_lines() -> None:
    for pixels in (4, 8, 16):
        image = Image.new("L", (224, 224), 255)
        image.paste(0, (20, 20, 20 + pixels, 204))
        prepared = torch.from_numpy(np.array(image)).expand(3, -1, -1)
        assert stroke_width(prepared) == pytest.approx(pixels / 184, rel=0.12)


@pytest.mark.parametrize(
    ("stroke", "reason"),
    [
        ({"points": []}, "at least 1"),
        ({"points": [[0.5]]}, "at least 2"),
        ({"points": [[0.5, math.nan]]}, "finite"),
        ({"points": [[0.5, 5.0]]}, "less than or equal to 2"),
        ({"points": [[0.5, 0.5]], "width": 0}, "greater than 0"),
        ({"points": [[0.5, 0.5]], "width": math.inf}, "finite"),
        ({"points": [["a", 0.5]]}, "valid number"),
        ({"points": [[0.5, 0.5, -0.1]]}, "from 0 to 1"),
        ({"points": [[0.5, 0.5]], "colour": "red"}, "not permitted"),
    ],
)
def test_strokes_that_are_none_are_refused(stroke: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Drawing.model_validate({"strokes": [stroke]})


def test_a_drawing_has_a_bounded_number_of_points() -> None:
    long = {"points": [[0.5, 0.5]] * (POINTS // 2 + 1)}
    Drawing.model_validate({"strokes": [long]})
    with pytest.raises(ValidationError, match=f"at most {POINTS} points"):
        Drawing.model_validate({"strokes": [long, long]})


def test_training_keeps_the_width_of_its_sketches_for_those_who_draw_later(dataset: Dataset, tmp_path: Path) -> None:
    pipeline = build("mathm", **SMALL).fit(split(dataset, "class0,class1"), progress=False, tensorboard=False)
    expected = np.median([stroke_width(pipeline.transform.prepare(figure(c, i, True), SKETCH)) for c in range(2, 6) for i in range(6)])
    assert pipeline.stroke_width == pytest.approx(expected, rel=0.05)
    pipeline.export(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.stroke_width == pipeline.stroke_width
    again.index(dataset.photos, progress=False).save(tmp_path / "index")
    with TestClient(app(tmp_path / "index")) as client:
        assert client.get("/about").json()["stroke_width"] == pipeline.stroke_width
    blank = [Image.new("L", (32, 32), 255)]
    assert usual_width(images(blank, modality="sketch"), Sbir(size=32)) is None
