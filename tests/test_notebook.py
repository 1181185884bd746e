"""Objects in a notebook: pictures of hits, parts of a pipeline, images of a dataset, and the page in a frame."""

from __future__ import annotations

import base64
import io
import re
import urllib.request
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import figure

from sbirlib import Pipeline, build
from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import images


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return build("mathm", encoder={"backbone": "resnet10t", "dim": 8, "pretrained": False}, transform={"size": 32})


def pictures(text: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', text)]


def test_hits_are_shown_as_pictures_in_their_order_and_one_that_is_gone_as_words(pipeline: Pipeline, tmp_path: Path) -> None:
    for i in range(4):
        Image.new("RGB", (300, 200), (60 * i, 0, 0)).save(tmp_path / f"<{i}>.png")
    index = pipeline.index(tmp_path, progress=False)
    hits = index.search(figure(0, 0, True))
    assert hits == list(hits)
    text = hits._repr_html_()
    reds = [picture.getpixel((5, 5))[0] for picture in pictures(text)]  # type: ignore[index]
    assert reds == [60 * int(Path(hit.path).stem.strip("<>")) for hit in hits]
    assert "&lt;0&gt;.png" in text
    assert "<0>" not in text
    Path(hits[1].path).unlink()
    assert len(pictures(hits._repr_html_())) == 3
    assert "no longer there" in hits._repr_html_()


def test_a_pipeline_shows_its_call_and_its_parts(pipeline: Pipeline) -> None:
    text = pipeline._repr_html_()
    for part in ("build(&#x27;mathm&#x27;", "backbone", "resnet10t", "balanced_triplet", "modality_hard", "sbir"):
        assert part in text


def test_a_dataset_shows_its_counts_and_images(dataset: Dataset, tmp_path: Path) -> None:
    text = dataset._repr_html_()
    assert "figures: 6 categories, 36 sketches, 36 photos" in text
    assert len(pictures(text)) == 12
    assert "class0" in text
    assert "class5" in text
    assert len(pictures(images([figure(0, 0, False)])._repr_html_())) == 1


def test_an_index_opens_a_page_in_a_frame_until_it_is_closed(pipeline: Pipeline, dataset: Dataset) -> None:
    page = pipeline.index(dataset.photos, progress=False).draw()
    assert f'<iframe src="{page.url}"' in page._repr_html_()
    assert page.url in repr(page)
    with urllib.request.urlopen(page.url + "health", timeout=20) as response:
        assert response.read() == b'{"status":"ok","photos":36}'
        assert "frame-ancestors 'self' http://localhost:*" in response.headers["content-security-policy"]
    page.close()
    with pytest.raises(OSError, match="refused|reset"):
        urllib.request.urlopen(page.url + "health", timeout=5)
