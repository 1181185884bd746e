"""Judgements as lines of a file: torn lines, and what follows them."""

from pathlib import Path

from sbirlib.data.judgements import Judgements, read_judgements
from sbirlib.data.strokes import Drawing

DRAWING = Drawing.model_validate({"strokes": [{"points": [[0.1, 0.1], [0.9, 0.9]]}]})


def test_a_judgement_after_a_torn_line_is_kept(tmp_path: Path) -> None:
    """Torn before the file was opened, by a power cut, or since, by a full disk."""
    file = tmp_path / "kept.jsonl"
    Judgements(file).keep(DRAWING, "a.png", "yes", "digest")
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:40])
    judgements = Judgements(file)
    judgements.keep(DRAWING, "b.png", "no", "digest")
    file.write_bytes(file.read_bytes() + whole[:40])
    judgements.keep(DRAWING, "c.png", "yes", "digest")
    assert [judgement.path for judgement in read_judgements(file)] == ["a.png", "b.png", "c.png"]
