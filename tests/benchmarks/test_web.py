"""The page of the results: claims and rows in words, plots, and no request of another file."""

import base64
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.benchmarks.test_claims import FOLDS, folds  # noqa: F401

from benchmarks import run_all
from benchmarks.experiments import definition, pictures, store, web
from benchmarks.experiments.folders import FOLDERS
from sbirlib import synthetic
from sbirlib.interfaces import Encoded


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_has_claims_rows_and_plots(folds: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    (folds / "definitions" / "folds.toml").write_text(FOLDS.replace('name = "absent"', 'name = "absent"\n\n[[rows]]\nname = "a < b"'))
    monkeypatch.setattr(sys, "argv", ["run_all.py", "folds", "--rows", "plain", "method", "oracle", "wavering", "a < b"])
    run_all.main()
    for run in store.read("folds"):
        steps = [{"step": step, "losses": {"a": 1 / step}} for step in (1, 2, 3)]
        store.write({name: value for name, value in run.items() if name != "xxh3"} | {"log": steps, "seconds": {"training": 5.0}})
    web.render()
    page = (folds / "docs" / "results.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.links == []
    assert "url(" not in page
    assert "@import" not in page
    assert len(re.findall(r'<tr data-text="[^"]*the method helps[^"]*" data-verdict="holds">', page)) == 1
    assert '<td class="n">+0.100 (+0.100 to +0.100) [0.000]</td>' in page
    assert "a &lt; b" in page
    assert "a < b" not in page
    assert page.count("<circle") == 5
    assert page.count("<polyline") == 5
    assert "not run yet" in page


def test_best_and_worst_queries_stand_in_pages_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, data = definition.read("smoke"), synthetic(categories=6, unseen=2, instances=3, size=32)
    row, test = experiment.rows[0], data.test
    sketches, photos = test.sketches, test.photos
    queries = Encoded(
        torch.randn(len(sketches), 1, 4), *(torch.tensor(x) for x in (sketches.modality, sketches.category, sketches.instance))
    )
    gallery = Encoded(torch.randn(len(photos), 4), *(torch.tensor(x) for x in (photos.modality, photos.category, photos.instance)))
    values = torch.linspace(0, 1, len(queries))
    pictures.draw(experiment, row, data, queries, gallery, values)
    assert web.queries(experiment) == "", "the project's own pages have none"
    monkeypatch.setattr(FOLDERS, "pictures", tmp_path)
    pictures.draw(replace(experiment, evaluator={"name": "classification"}), row, data, queries, gallery[:0], values)
    pictures.draw(experiment, row, data, queries, gallery, torch.full_like(values, torch.nan))
    assert web.queries(experiment) == "", "no photos are ranked, or no query has a value"
    pictures.draw(experiment, row, data, queries, gallery, values)
    address = re.findall(r'<img src="data:image/webp;base64,([\w+/=]+)"', web.queries(experiment))
    assert len(address) == 1
    assert Image.open(BytesIO(base64.b64decode(address[0]))).height > 6 * 96, "three of the best and three of the worst"
