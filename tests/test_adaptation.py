"""Adaptation to judgements: it helps where they say something, is refused where they do not, and encodes no photo."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from tests.conftest import figure
from typer.testing import CliRunner

from sbirlib import build, open_index
from sbirlib.adaptation import Table, adapt, loss, reset
from sbirlib.cli import app as command
from sbirlib.data.judgements import Judgements, read_judgements
from sbirlib.data.strokes import Drawing, Stroke, render
from sbirlib.encoders.query_head import QueryHead, headed
from sbirlib.errors import InputError
from sbirlib.serve import app

CLASSES, PHOTOS = 4, 16


def drawing(c: int, i: int) -> Drawing:
    """A wave of c + 1 periods, no two alike."""
    random = np.random.default_rng([c, i])
    x, shift, height = np.linspace(0.1, 0.9, 50), random.uniform(-0.05, 0.05), random.uniform(0.25, 0.35)
    points = [[float(t), 0.5 + shift + height * math.sin((c + 1) * math.pi * (t - 0.1) / 0.8)] for t in x]
    return Drawing(strokes=[Stroke(points=points, width=0.03)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of sixteen photos of each of four classes, by an encoder that knows nothing."""
    root = tmp_path_factory.mktemp("adaptation")
    for c in range(CLASSES):
        for i in range(PHOTOS):
            path = root / "photos" / f"class{c}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            figure(c, i, False).save(path)
    pipeline = build("mathm", encoder={"backbone": "resnet10t", "dim": 16, "pretrained": False}, transform={"size": 32})
    pipeline.index(root / "photos", progress=False).save(root / "index")
    return root


@pytest.fixture
def index(whole: Path, tmp_path: Path) -> Path:
    open_index(whole / "index").save(tmp_path / "index")
    return tmp_path / "index"


def judged(whole: Path, file: Path, *, meaning: bool) -> Path:
    """Judgements by users who mean the class of their drawing, or any photo at all."""
    judgements, random = Judgements(file), np.random.default_rng(0)
    for c in range(CLASSES):
        for i in range(PHOTOS):
            right = c if meaning else int(random.integers(CLASSES))
            wrong = random.choice([other for other in range(CLASSES) if other != right])
            for answer, kind in (("yes", right), ("no", wrong), ("no", wrong)):
                number = i if answer == "yes" else int(random.integers(PHOTOS))
                judgements.keep(drawing(c, i), str(whole / "photos" / f"class{kind}" / f"{number}.png"), answer, "")  # type: ignore[arg-type]
    return file


def right_first(index: Path) -> float:
    """Share of new drawings whose first photo is of their class."""
    opened = open_index(index)
    hits = [
        opened.search(render(drawing(c, 100 + i), opened.transform), k=1)[0].category == f"class{c}"
        for c in range(CLASSES)
        for i in range(8)
    ]
    return float(np.mean(hits))


def test_judgements_that_mean_something_help_new_drawings_and_the_vectors_stay(index: Path, whole: Path, tmp_path: Path) -> None:
    file, before, vectors = judged(whole, tmp_path / "kept.jsonl", meaning=True), right_first(index), sorted(index.glob("vectors-*"))
    result = adapt(index, file, progress=False)
    assert result.helps
    assert result.answers == CLASSES * PHOTOS
    assert result.after > result.before + 0.2
    assert right_first(index) > before + 0.2
    assert sorted(index.glob("vectors-*")) == vectors
    adapted = open_index(index)
    assert isinstance(adapted.encoder, QueryHead)
    again = adapt(index, file, progress=False)
    assert (again.before, again.after) == (result.before, result.after), "a head is learnt anew, not upon another"
    assert reset(index)
    assert right_first(index) == before
    assert not reset(index)


def test_judgements_without_meaning_change_nothing(index: Path, whole: Path, tmp_path: Path) -> None:
    file, before = judged(whole, tmp_path / "kept.jsonl", meaning=False), (index / "index.json").read_bytes()
    result = adapt(index, file, progress=False)
    assert not result.helps
    assert (index / "index.json").read_bytes() == before
    outcome = CliRunner().invoke(command, ["adapt", "--index", str(index), "--feedback", str(file)])
    assert isinstance(outcome.exception, InputError)
    assert "its help is not certain" in str(outcome.exception)


def test_users_who_contradict_each_other_change_nothing(index: Path, whole: Path, tmp_path: Path) -> None:
    judgements, before = Judgements(tmp_path / "kept.jsonl"), (index / "index.json").read_bytes()
    for c in range(CLASSES):
        for i in range(8):
            one, other = (str(whole / "photos" / f"class{kind}" / f"{i}.png") for kind in (c, (c + 1) % CLASSES))
            for shown, (right, wrong) in enumerate([(one, other), (other, one)]):
                judgements.keep(drawing(c, 100 * shown + i), right, "yes", "")
                judgements.keep(drawing(c, 100 * shown + i), wrong, "no", "")
    assert not adapt(index, judgements.path, progress=False).helps
    assert (index / "index.json").read_bytes() == before


def test_too_few_judgements_damaged_lines_and_photos_that_left_the_index(
    index: Path, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    judgements = Judgements(tmp_path / "kept.jsonl")
    for i in range(PHOTOS):
        judgements.keep(drawing(0, i), str(whole / "photos" / "class0" / f"{i}.png"), "yes", "")
        judgements.keep(drawing(0, i), str(whole / "photos" / "class1" / f"{i}.png"), "no", "")
        judgements.keep(drawing(1, i), f"elsewhere/{i}.png", "yes", "")
    with pytest.raises(InputError, match="of 48 judgements, 32 are about photos of this index; .* name 16 right photos, and 20 are needed"):
        adapt(index, judgements.path, progress=False)
    lines = judgements.path.read_bytes()
    judgements.path.write_bytes(lines[:-30])  # a power cut
    Judgements(judgements.path).keep(drawing(2, 0), "elsewhere/0.png", "no", "")
    assert len(read_judgements(judgements.path)) == 3 * PHOTOS
    assert "line 48 of" in caplog.text
    with pytest.raises(InputError, match="there is no file"):
        adapt(index, tmp_path / "none.jsonl")


def test_the_command_says_what_it_found_and_a_running_server_takes_it_up(
    index: Path, whole: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("sbirlib.serve.follower.EVERY", 0.0)
    file = judged(whole, tmp_path / "kept.jsonl", meaning=True)
    client, body = TestClient(app(index)), {"drawing": json.loads(drawing(1, 77).model_dump_json())}
    with client:
        before = client.post("/search", json=body).json()
        outcome = CliRunner().invoke(command, ["adapt", "--index", str(index), "--feedback", str(file)])
        assert outcome.exit_code == 0, outcome.output
        assert "64 right photos" in outcome.output
        for _ in range(200):
            if client.post("/search", json=body).json() != before:
                break
        else:
            raise AssertionError("the server goes on without the head")
        outcome = CliRunner().invoke(command, ["adapt", "--index", str(index), "--reset"])
        assert "the head is gone" in outcome.output
    both = CliRunner().invoke(command, ["adapt", "--index", str(index), "--reset", "--feedback", str(file)])
    assert isinstance(both.exception, InputError)


@pytest.mark.parametrize("count", [6, 0])  # of others: every photo of an index may have been meant
def test_the_loss_is_that_of_its_definition(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, right, wrong, others = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(4, 2, 5), (4, 5), (3, 5), (count, 5)]
    )
    of = torch.tensor([0, 2, 2])
    queries.requires_grad_()
    value = loss(queries, Table(queries, right, wrong, of, others))
    scale = 0.07 * float(queries.detach().norm(dim=-1).mean())
    terms = []
    for n in range(4):
        against = [others[o] for o in range(count)] + [wrong[w] for w in range(3) if of[w] == n]
        scores = [torch.stack([queries[n, s] @ g for s in range(2)]).max() / scale for g in [right[n], *against]]
        terms.append(-torch.log_softmax(torch.stack(scores), 0)[0])
    expected = torch.stack(terms).mean()
    assert torch.allclose(value, expected)


def test_a_head_keeps_the_length_of_a_query_and_begins_as_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(5, 2, 7, generator=generator)
    assert torch.allclose(headed(queries, torch.zeros(7, 7), torch.zeros(7)), queries)
    changed = headed(queries, torch.randn(7, 7, generator=generator), torch.randn(7, generator=generator))
    assert torch.allclose(changed.norm(dim=-1), queries.norm(dim=-1))
    assert not torch.allclose(changed, queries)


def test_a_strangers_file_of_judgements_is_read_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "judgements.jsonl"
    for i in range(3):
        Judgements(file).keep(drawing(1, i), f"{i}.jpg", "yes", "")
    whole, random = file.read_bytes(), np.random.default_rng(0)
    sound = read_judgements(file)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(int(random.integers(1, 4))):
            place = int(random.integers(len(content)))
            content[place : place + int(random.integers(0, 3))] = random.bytes(int(random.integers(0, 3)))
        file.write_bytes(content)
        try:
            judgements = read_judgements(file)
        except InputError:
            continue
        assert len(judgements) <= 4
        assert sum(judgement in sound for judgement in judgements) >= len(judgements) - 3
    file.write_bytes(b'{"time":' + b"[" * 100_000)
    assert read_judgements(file) == []
