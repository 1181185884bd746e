import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sbirlib.data.synthetic import synthetic
from sbirlib.data.transforms import Sbir
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Encoded
from sbirlib.visual.batch import training_batch
from sbirlib.visual.curves import read_log, training_curves
from sbirlib.visual.figures import save_figure
from sbirlib.visual.layout import STEP
from sbirlib.visual.tsne import embedding_map


def encoded(modality: int, apart: float) -> Encoded:
    category = torch.arange(40) % 4
    vectors = torch.eye(4)[category] + 0.01 * torch.randn(40, 4, generator=torch.Generator().manual_seed(modality)) + apart
    vectors = vectors[:, None] if modality == SKETCH else vectors
    return Encoded(vectors, torch.full((40,), modality), category, torch.full((40,), -1))


def test_curves_are_the_logged_values(tmp_path: Path) -> None:
    records = [{"step": s, "losses": {"cross_entropy": 1 / s}, "logged": {"g_cross": s / 10}} for s in (1, 2, 3)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    canvas = training_curves({"mathm": read_log(tmp_path)}, {"g": ["g_cross"], "loss": ["cross_entropy"]})
    lines = np.array([axis.lines[0].get_xydata() for axis in canvas.axes], dtype=float)
    assert np.allclose(lines, np.array([[(1, 0.1), (2, 0.2), (3, 0.3)], [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]]))
    save_figure(canvas, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").width > 400


def test_a_curve_takes_the_records_that_hold_its_quantity() -> None:
    records = [{"step": 1, "losses": {"a": 3.0}}, {"step": 2, "losses": {"a": 2.0}}, {"step": 2, "validation": {"mAP@all": 0.5}}]
    canvas = training_curves({"run": records}, {"loss": ["a"], "validation": ["mAP@all"]})
    assert [axis.lines[0].get_xydata().tolist() for axis in canvas.axes] == [[[1, 3], [2, 2]], [[2, 0.5]]]


def test_what_was_not_logged_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="logged no 'g_cros'; did you mean 'g_cross'"):
        training_curves({"a": [{"step": 1, "logged": {"g_cross": 1.0}}]}, {"g": ["g_cros"]})
    with pytest.raises(InputError, match="log of a is empty"):
        training_curves({"a": []}, {"g": ["g_cross"]})
    with pytest.raises(InputError, match="no log at"):
        read_log(tmp_path)


def test_a_map_keeps_classes_apart_and_modalities_in_their_marks() -> None:
    pairs = {"near": (encoded(SKETCH, 0.0), encoded(PHOTO, 0.0)), "apart": (encoded(SKETCH, 0.0), encoded(PHOTO, 3.0))}
    canvas = embedding_map(pairs, ["a", "b", "c", "d"], classes=3)
    for axis in canvas.axes:
        assert sum(len(c.get_offsets()) for c in axis.collections) == 2 * 30
    sketches, photos = ([np.asarray(c.get_offsets()).mean(0) for c in canvas.axes[0].collections[part]] for part in (slice(3), slice(3, 6)))
    for i, centre in enumerate(sketches):
        assert np.argmin([np.linalg.norm(centre - other) for other in photos]) == i


def test_a_map_of_too_few_is_refused() -> None:
    few = encoded(SKETCH, 0.0)[:1], encoded(PHOTO, 0.0)[:1]
    with pytest.raises(InputError, match="too few for a map"):
        embedding_map({"few": few}, ["a", "b", "c", "d"], classes=4)


def test_a_training_batch_shows_each_class_in_a_row() -> None:
    dataset = synthetic(categories=12, unseen=4, instances=4, size=32)
    picture = training_batch(dataset, Sbir(size=32), categories=3, per_modality=2)
    more = training_batch(dataset, Sbir(size=32), categories=5, per_modality=2)
    assert more.height - picture.height == 2 * (32 + STEP)
    assert np.asarray(picture).std() > 0
    sketches_only = training_batch(dataset.sketches, Sbir(size=32), categories=3, per_modality=2)
    assert sketches_only.width == picture.width - 2 * (32 + STEP)


def test_a_damaged_line_of_a_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step"\n')
    with pytest.raises(InputError, match="log.jsonl, line 2 is not valid JSON"):
        read_log(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"step": 1, "losses": {"a": NaN}, "lr": {"rest": 0.1}}\n{"losses": 3}\n')
    with pytest.raises(InputError, match=r"line 2 is damaged, or by another program: step: Field required; losses: Input should be"):
        read_log(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"step": 1, "losses": {"a": 2}, "lr": {"rest": 0.1}}\n')
    assert read_log(tmp_path) == [{"step": 1, "losses": {"a": 2.0}, "lr": {"rest": 0.1}}]
