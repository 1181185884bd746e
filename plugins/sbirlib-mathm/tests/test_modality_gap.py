import pytest
import torch
import torch.nn.functional as F

from sbirlib.errors import InputError
from sbirlib.interfaces import Encoded
from sbirlib.testing import check_part
from sbirlib_mathm.modality_gap import ModalityGap


def literal(queries: Encoded, gallery: Encoded) -> dict[str, float]:
    """Section 4.4 by loops over all ordered pairs: the mean of each class, then over classes."""
    rows = [(0, int(c), v[0]) for c, v in zip(queries.category, queries.vectors, strict=True)]
    rows += [(1, int(c), v) for c, v in zip(gallery.category, gallery.vectors, strict=True)]
    classes = sorted({c for _, c, _ in rows})
    means: dict[str, list[float]] = {f"{where}_{kind}": [] for where in ("within", "between") for kind in ("same", "cross")}
    for own in classes:
        cosines: dict[str, list[float]] = {name: [] for name in means}
        for i, (m, c, v) in enumerate(rows):
            for j, (n, d, w) in enumerate(rows):
                if c == own and i != j:
                    cosines[f"{'within' if d == own else 'between'}_{'same' if m == n else 'cross'}"].append(float(v @ w))
        for name, values in cosines.items():
            if values:
                means[name].append(sum(values) / len(values))
    value = {name: sum(values) / len(values) if values else 0.0 for name, values in means.items()}
    return value | {
        "modality_gap": value["within_same"] - value["within_cross"],
        "discrepancy_same": value["within_same"] - value["between_same"],
        "discrepancy_cross": value["within_cross"] - value["between_cross"],
    }


def test_it_conforms_and_equals_the_loops() -> None:
    check_part("evaluator", "modality_gap", oracle=literal)


def encoded(vectors: torch.Tensor, category: list[int], modality: int) -> Encoded:
    labels = torch.tensor(category)
    return Encoded(vectors if modality else vectors[:, None], torch.full_like(labels, modality), labels, labels)


def test_two_modalities_apart_have_a_gap_and_two_classes_apart_a_discrepancy() -> None:
    towards = torch.eye(4)
    sketches = encoded(F.normalize(towards[[0, 0, 1, 1]] + 0.5 * towards[2], dim=1), [0, 0, 1, 1], 0)
    photos = encoded(F.normalize(towards[[0, 0, 1, 1]] + 0.5 * towards[3], dim=1), [0, 0, 1, 1], 1)
    metrics = ModalityGap().evaluate(sketches, photos)
    assert metrics["within_same"] == pytest.approx(1)
    assert metrics["within_cross"] == pytest.approx(0.8)
    assert metrics["between_same"] == pytest.approx(0.2)
    assert metrics["between_cross"] == pytest.approx(0)
    assert metrics["modality_gap"] == pytest.approx(0.2)
    assert metrics["discrepancy_same"] == pytest.approx(0.8)
    assert metrics["discrepancy_cross"] == pytest.approx(0.8)


def test_vectors_that_are_no_cosines_are_refused() -> None:
    photos = encoded(torch.ones(4, 3), [0, 0, 1, 1], 1)
    with pytest.raises(InputError, match="not of unit length"):
        ModalityGap().evaluate(encoded(torch.ones(4, 3), [0, 0, 1, 1], 0), photos)
