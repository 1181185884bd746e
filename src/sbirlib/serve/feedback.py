"""Judgements of results, kept as JSON lines."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal

from annotated_types import MaxLen

from sbirlib.data.strokes import Drawing
from sbirlib.documents import Schema
from sbirlib.errors import InputError


class Judgement(Schema):
    """One line: whether the photo at `path` is the one that the drawing means, by which encoder's ranking, and when (UTC)."""

    time: Annotated[str, MaxLen(100)]
    encoder: Annotated[str, MaxLen(100)]
    path: Annotated[str, MaxLen(100_000)]
    answer: Literal["yes", "no"]
    drawing: Drawing


class Feedback:
    """A file of judgements, each one line, written at once and synced: a kill costs no line that was answered."""

    def __init__(self, path: str | Path) -> None:
        self.path, self._lock = Path(path), Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("ab").close()
        except OSError as error:
            raise InputError(f"judgements cannot be kept in {str(path)!r} ({error.strerror}): choose a file that may be written") from error

    def keep(self, drawing: Drawing, path: str, answer: Literal["yes", "no"], encoder: str) -> None:
        """Append one judgement."""
        line = Judgement(time=datetime.now(UTC).isoformat(timespec="seconds"), encoder=encoder, path=path, answer=answer, drawing=drawing)
        with self._lock, self.path.open("ab") as file:
            file.write(json.dumps(line.model_dump(), separators=(",", ":")).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
