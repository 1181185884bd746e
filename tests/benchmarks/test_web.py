"""The page of the results: claims and rows in words, plots, and no request of another file."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.benchmarks.test_claims import FOLDS, folds  # noqa: F401

from benchmarks import run_all
from benchmarks.experiments import store, web


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
