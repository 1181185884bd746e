"""Users' judgements of results, kept as JSON lines."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Annotated, BinaryIO, Literal

from annotated_types import MaxLen
from pydantic import TypeAdapter, ValidationError

from sbirlib.data.strokes import Drawing
from sbirlib.documents import Schema, read_text
from sbirlib.errors import InputError

logger = logging.getLogger(__name__)
Verdict = Literal["yes", "no"]


class Judgement(Schema):
    """One line: whether the photo at `path` is the one that the drawing means, in a ranking by which encoder, and when (UTC)."""

    time: Annotated[str, MaxLen(100)]
    encoder: Annotated[str, MaxLen(100)]
    path: Annotated[str, MaxLen(100_000)]
    answer: Verdict
    drawing: Drawing


LINE = TypeAdapter(Judgement)


class Judgements:
    """A file to which judgements are appended, each line in one synced write: a kill costs no judgement that was acknowledged."""

    def __init__(self, path: str | Path) -> None:
        self.path, self._lock = Path(path), Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                self._end_line(file)
        except OSError as error:
            raise InputError(f"judgements cannot be kept in {str(path)!r} ({error.strerror}): choose a file that may be written") from error

    def keep(self, drawing: Drawing, path: str, answer: Verdict, encoder: str) -> None:
        """Append one judgement."""
        judgement = Judgement(
            time=datetime.now(UTC).isoformat(timespec="seconds"), encoder=encoder, path=path, answer=answer, drawing=drawing
        )
        with self._lock, self.path.open("ab+") as file:
            self._end_line(file)
            file.write(json.dumps(judgement.model_dump(), separators=(",", ":")).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _end_line(self, file: BinaryIO) -> None:
        """End the last line, which a power cut or a full disk may have torn."""
        if file.tell() and not _ends_with_a_line(self.path):
            file.write(b"\n")


def read_judgements(path: str | Path) -> list[Judgement]:
    """All judgements of a file; a line that is none is left out, with a warning that names it."""
    judgements = []
    for number, line in enumerate(read_text(path, expected="judgements, as `sbirlib serve --feedback FILE` keeps them").split("\n"), 1):
        if not line.strip():
            continue
        try:
            judgements.append(LINE.validate_json(line))
        except ValidationError as error:
            logger.warning("line %d of %s is no judgement and is left out: %s", number, path, error.errors()[0]["msg"])
    return judgements


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
