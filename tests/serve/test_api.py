"""The API: answers equal those of the library, faults have their codes, and no path leaves the machine."""

from __future__ import annotations

import io
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from tests.conftest import figure
from tests.serve.conftest import CROSS

from sbirlib import open_index
from sbirlib.data.strokes import Drawing, render
from sbirlib.errors import InputError
from sbirlib.serve import app
from sbirlib.serve.limits import Limits
from sbirlib.serve.service import BLANK


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def searched(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post("/search", json={"drawing": CROSS, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_strokes_and_images_find_what_the_library_finds(client: TestClient, folder: Path) -> None:
    index, sketch = open_index(folder), figure(1, 0, True)
    response = client.post("/search?k=18", content=png(sketch), headers={"Content-Type": "image/png"})
    drawing = render(Drawing.model_validate(CROSS), index.transform)
    for answer, image in ((response.json(), sketch), (searched(client, k=18), drawing)):
        expected = index.search(image, k=18)
        assert [hit["name"] for hit in answer["hits"]] == [Path(hit.path).name for hit in expected]
        assert [hit["score"] for hit in answer["hits"]] == pytest.approx([hit.score for hit in expected], abs=1e-5)
        assert [hit["rank"] for hit in answer["hits"]] == list(range(1, 19))
        assert answer["total"] == 18
        assert answer["hits"][0]["record"].keys() == {"category", "year"}


def test_scrolling_and_filters(client: TestClient) -> None:
    whole = searched(client, k=18)["hits"]
    assert searched(client, k=5, offset=7)["hits"] == whole[7:12]
    assert searched(client, k=5, offset=18)["hits"] == []
    answer = searched(client, k=18, where={"category": ["class1", "class2"], "year": [2001, 2002, 2003]})
    assert sorted(hit["record"]["year"] for hit in answer["hits"]) == [2001, 2002]
    assert answer["total"] == 2
    query = "/search?k=18&where=category=class1&where=year=2001&where=year=2004"
    answer = client.post(query, content=png(figure(0, 0, True)), headers={"Content-Type": "image/png"}).json()
    assert sorted(hit["record"]["year"] for hit in answer["hits"]) == [2001, 2004]
    assert searched(client, where={"category": ["none"]}) == {"hits": [], "total": 0, "offset": 0, "message": None}
    query = "/search?where=year=0x" + "f" * 5000 + "&where=year=inf&where=year=2003"  # numbers that no record holds
    answer = client.post(query, content=png(figure(0, 0, True)), headers={"Content-Type": "image/png"}).json()
    assert [hit["record"]["year"] for hit in answer["hits"]] == [2003]
    response = client.post("/search", json={"drawing": CROSS, "where": {"yaer": [2001]}})
    assert (response.status_code, "did you mean 'year'" in response.json()["detail"]) == (400, True)


def test_the_scores_of_a_photo_and_of_a_drawing_are_mixed_as_asked(client: TestClient) -> None:
    photo = searched(client, k=1)["hits"][0]["id"]
    alone = {share: client.post(f"/similar/{photo}", json={"k": 18, "drawing": CROSS, "share": share}).json()["hits"] for share in (0, 1)}
    by_photo, by_drawing = ({hit["id"]: hit["score"] for hit in hits} for hits in alone.values())
    assert alone[0][0]["id"] == photo
    assert alone[0] == client.post(f"/similar/{photo}", json={"k": 18}).json()["hits"]
    assert by_drawing == pytest.approx({hit["id"]: hit["score"] for hit in searched(client, k=18)["hits"]}, abs=1e-6)
    mixed = client.post(f"/similar/{photo}", json={"k": 18, "drawing": CROSS, "share": 0.3}).json()["hits"]
    expected = {i: 0.7 * by_photo[i] + 0.3 * by_drawing[i] for i in by_photo}
    assert {hit["id"]: hit["score"] for hit in mixed} == pytest.approx(expected, abs=1e-5)
    assert [hit["score"] for hit in mixed] == sorted((hit["score"] for hit in mixed), reverse=True)


def test_photos_are_served_by_id_small_and_large_without_their_metadata(pipeline: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"  # a quarter turn; the maker
    Image.new("RGB", (3000, 1000), "red").save(tmp_path / "wide.jpg", exif=exif)
    client = TestClient(app(pipeline.index([tmp_path / "wide.jpg"], progress=False), cache=tmp_path / "cache"))
    for kind, side in (("photo", 2048), ("thumbnail", 256)):
        response = client.get(f"/{kind}/0")
        assert response.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(response.content)) as picture:
            assert (picture.height, dict(picture.getexif())) == (side, {})
        assert client.get(f"/{kind}/0", headers={"If-None-Match": response.headers["etag"]}).status_code == 304
    assert len(list((tmp_path / "cache").glob("*/*.jpg"))) == 2


def test_a_photo_that_is_gone_is_said_to_be(client: TestClient, photos: Path) -> None:
    hit = searched(client, k=1)["hits"][0]
    next(photos.glob(f"*/{hit['name']}")).unlink()
    for response in (
        client.get(f"/photo/{hit['id']}"),
        client.get(f"/thumbnail/{hit['id']}"),
        client.post(f"/similar/{hit['id']}", json={}),
    ):
        assert (response.status_code, response.json()) == (410, {"detail": "this photo is no longer there"})
    other = searched(client, k=2)["hits"][1]
    next(photos.glob(f"*/{other['name']}")).write_bytes(b"no image")
    assert client.get(f"/photo/{other['id']}").json() == {"detail": "this photo can no longer be read"}
    assert len(searched(client, k=18)["hits"]) == 18


def test_what_stands_in_the_place_of_a_photo_is_not_waited_for(client: TestClient, photos: Path) -> None:
    hits = searched(client, k=3)["hits"]
    places = [next(photos.glob(f"*/{hit['name']}")) for hit in hits]
    for place in places:
        place.unlink()
    os.mkfifo(places[0])  # opening it would wait for a writer
    places[1].mkdir()
    places[2].symlink_to("/dev/zero")
    for hit in hits:
        for path in ("thumbnail", "photo"):
            assert client.get(f"/{path}/{hit['id']}").status_code == 410
        assert client.post(f"/similar/{hit['id']}", json={}).status_code == 410


@pytest.mark.parametrize("id_", ["18", "-1", "1.0", "x", "9" * 19, "9" * 20, "²", "03", "%D9%A3", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "0%00"])
def test_no_other_id_is_a_photo(client: TestClient, id_: str) -> None:
    for response in (client.get(f"/photo/{id_}"), client.get(f"/thumbnail/{id_}"), client.post(f"/similar/{id_}", json={})):
        assert response.status_code in (404, 405, 422), response.text


def test_fields_are_counted(client: TestClient, pipeline: Any, photos: Path) -> None:
    fields = client.get("/fields").json()["fields"]
    assert fields["category"] == {"distinct": 3, "values": [{"value": f"class{c}", "count": 6} for c in range(3)]}
    assert fields["year"]["distinct"] == 18
    assert "path" not in fields
    index = pipeline.index(photos, progress=False)
    growing = TestClient(app(index))
    assert growing.get("/fields").json()["fields"]["category"]["values"][0]["count"] == 6
    index.remove([str(path) for path in (photos / "class1").glob("*")])
    assert growing.get("/fields").json()["fields"]["category"]["distinct"] == 2


def test_a_blank_drawing_has_no_hits_and_a_word(client: TestClient) -> None:
    assert client.post("/search", json={"drawing": {"strokes": []}}).json() == {"hits": [], "total": 18, "offset": 0, "message": BLANK}
    blank = client.post("/search", content=png(Image.new("L", (40, 40), 250)), headers={"Content-Type": "image/png"})
    assert blank.json()["message"] == BLANK
    assert client.post("/similar/0", json={"drawing": {"strokes": []}}).json()["hits"] == []


@pytest.mark.parametrize(
    ("content", "kind", "status", "word"),
    [
        (b"{", "application/json", 422, "Invalid JSON"),
        (b"[]", "application/json", 422, "should be an object"),
        (b'{"drawing": {"strokes": [{"points": [[0.5, NaN]]}]}}', "application/json", 422, "finite"),
        (b'{"drawing": {"strokes": []}, "k": 0}', "application/json", 422, "greater than or equal to 1"),
        (b'{"drawing": {"strokes": []}, "k": 201}', "application/json", 422, "k is at most 200"),
        (b'{"drawing": {"strokes": []}, "offset": 1999}', "application/json", 422, "together at most 2000"),
        (b'{"drawing": {"strokes": []}, "where": {"year": [[1]]}}', "application/json", 422, "where"),
        (b'{"drawing": {"strokes": []}, "limit": 3}', "application/json", 422, "not permitted"),
        (b"\x89PNG and no more", "image/png", 400, "no image"),
        (b"", "image/png", 400, "the body is empty"),
        (b"%PDF", "application/pdf", 415, "not 'application/pdf'"),
        (b"{}", "", 415, "without a type"),
    ],
)
def test_bodies_that_are_none_have_their_codes(client: TestClient, content: bytes, kind: str, status: int, word: str) -> None:
    response = client.post("/search", content=content, headers={"Content-Type": kind} if kind else {})
    assert (response.status_code, word in response.text) == (status, True), response.text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/png", ""])
def test_other_routes_take_nothing_but_json(client: TestClient, kind: str) -> None:
    body = json.dumps({"drawing": CROSS, "id": "0", "answer": "yes"}).encode()
    for path in ("/similar/0", "/feedback"):
        response = client.post(path, content=body, headers={"Content-Type": kind} if kind else {})
        assert (response.status_code, "send the header Content-Type: application/json" in response.text) == (415, True)


def test_photos_are_not_found_by_their_path(client: TestClient, photos: Path) -> None:
    """A filter by path would tell whoever guesses which files there are."""
    for wanted in (str(photos / "class0" / "0.png"), "nothing"):
        response = client.post("/search", json={"drawing": CROSS, "where": {"path": [wanted]}})
        assert (response.status_code, "tells no paths" in response.text) == (400, True)


def test_faults_of_a_body_are_told_in_little_time(client: TestClient) -> None:
    """Each wrong value of a body is an error of its own, of a thousand bytes and some microseconds."""
    stroke = b'{"points":[' + b",".join([b"[9,9]"] * 800) + b"]}"
    body = b'{"drawing":{"strokes":[' + b",".join([stroke] * 1000) + b"]}}"
    for path in ("/search", "/similar/0", "/feedback"):
        start = time.monotonic()
        assert client.post(path, content=body, headers={"Content-Type": "application/json"}).status_code == 413
        assert time.monotonic() - start < 5


def test_an_image_that_is_too_large_or_cut_short(serving: Any) -> None:
    large, whole = png(Image.new("L", (600, 400))), png(figure(0, 0, True))
    with serving(limits=Limits(pixels=200_000)) as client:
        assert client.post("/search", content=large, headers={"Content-Type": "image/png"}).status_code == 413
        header = b"P5 60000 60000 255\n" + bytes(100)  # over Pillow's own limit too
        assert client.post("/search", content=header, headers={"Content-Type": "image/x-portable-graymap"}).status_code == 413
        cut = client.post("/search", content=whole[: len(whole) // 2], headers={"Content-Type": "image/png"})
        assert (cut.status_code, "damaged or cut short" in cut.text) == (400, True)


def test_no_answer_holds_a_path_of_the_machine(client: TestClient, photos: Path, folder: Path) -> None:
    place = str(photos.parent)
    next(photos.glob("*/*")).unlink()
    texts = [client.post("/search", json={"drawing": CROSS, "k": 18}).text, client.get("/fields").text, client.get("/about").text]
    texts += [client.get(f"/photo/{i}").text for i in range(19)] + [client.post(f"/similar/{i}", json={}).text for i in range(19)]
    texts += [client.get("/metrics").text, client.get("/openapi.json").text]
    assert not [text for text in texts if place in text or "/home" in text or "Traceback" in text]


def test_state_and_numbers(client: TestClient) -> None:
    searched(client)
    client.get("/nothing")
    assert client.get("/health").json() == {"status": "ok", "photos": 18}
    about = client.get("/about").json()
    assert about["limits"] == {"k": 200, "depth": 2000, "bytes": 10_000_000, "strokes": 2000, "points": 20_000}
    numbers = client.get("/metrics").text
    for line in (
        'sbirlib_requests_total{method="POST",route="/search",status="200"} 1.0',
        'sbirlib_requests_total{method="GET",route="other",status="404"} 1.0',
        "sbirlib_batch_queries_count 1.0",
        "sbirlib_photos 18.0",
    ):
        assert line in numbers
    description = client.get("/openapi.json").json()
    assert description["paths"].keys() == {
        "/about",
        "/search",
        "/similar/{id}",
        "/photo/{id}",
        "/thumbnail/{id}",
        "/fields",
        "/feedback",
        "/health",
        "/metrics",
    }
    assert description["paths"]["/search"]["post"]["requestBody"]["content"].keys() == {"application/json", "image/*"}
    assert "$defs" not in json.dumps(description)


def test_the_page_is_asked_for_anew_and_its_files_lead_nowhere_else(client: TestClient) -> None:
    page = client.get("/")
    assert "<title>Draw to search</title>" in page.text
    scripts = re.findall(r'(?:src|href)="(page/[^"]+)"', page.text)
    assert len(scripts) >= 4
    for path in scripts:
        response = client.get(f"/{path}")
        assert (response.status_code, response.headers["cache-control"]) == (200, "no-cache")
        assert client.get(f"/{path}", headers={"If-None-Match": response.headers["etag"]}).status_code == 304
    for path in ("/page/", "/page/none.js", "/page/%2e%2e/routes.py", "/page/..%2froutes.py"):
        assert client.get(path).status_code == 404


def test_it_mounts_in_another_application(folder: Path) -> None:
    outer = FastAPI()
    outer.mount("/draw", app(folder))
    client = TestClient(outer)
    assert client.get("/draw/health").json()["photos"] == 18
    assert len(client.post("/draw/search", json={"drawing": CROSS, "k": 3}).json()["hits"]) == 3
    assert client.get("/draw/thumbnail/0").status_code == 200


def test_judgements_are_kept(serving: Any, photos: Path, tmp_path: Path) -> None:
    body = {"drawing": CROSS, "id": "3", "answer": "yes"}
    with serving() as client:
        assert client.post("/feedback", json=body).status_code == 404
    with serving(feedback=tmp_path / "kept" / "judgements.jsonl") as client:
        assert client.get("/about").json()["feedback"] is True
        assert client.post("/feedback", json=body).status_code == 204
        assert client.post("/feedback", json={**body, "answer": "no", "id": "4"}).status_code == 204
        assert client.post("/feedback", json={**body, "answer": "perhaps"}).status_code == 422
        assert client.post("/feedback", json={**body, "id": "99"}).status_code == 404
    lines = [json.loads(line) for line in (tmp_path / "kept" / "judgements.jsonl").read_text().splitlines()]
    assert [line["answer"] for line in lines] == ["yes", "no"]
    assert Path(lines[0]["path"]).parent.parent == photos
    assert Drawing.model_validate(lines[0]["drawing"]) == Drawing.model_validate(CROSS)


def test_a_judgement_that_cannot_be_kept_is_not_acknowledged(serving: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "judgements.jsonl"
    with serving(feedback=file) as client:
        file.unlink()
        file.mkdir()  # as a full disk would, it refuses what is written
        response = client.post("/feedback", json={"drawing": CROSS, "id": "3", "answer": "yes"})
    assert response.status_code == 507
    assert response.json() == {"detail": "the judgement could not be kept; the server's log says why"}
    assert "could not be kept" in caplog.text


def test_an_index_that_is_none_and_a_file_that_cannot_be_written_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not an index"):
        app(tmp_path / "nothing")
    with pytest.raises(InputError, match="cannot be kept"):
        app(folder, feedback=tmp_path)
