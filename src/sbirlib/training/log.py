"""What training says while it runs: a line or a bar for people, JSONL and TensorBoard for plots."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sbirlib.files import atomic_write


class Log:
    """Writes `log.jsonl` and TensorBoard events into `folder` (None: nowhere), and shows progress on stderr."""

    def __init__(self, folder: Path | None, *, total: int, done: int = 0, show: bool = True, tensorboard: bool = True) -> None:
        self.file = None
        self.board: Any = None
        self.total, self.started, self.first, self.spoken = total, time.monotonic(), done, 0.0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "log.jsonl"
            self._forget_after(path, done)
            self.file = open(path, "a", encoding="utf-8")
            if tensorboard:
                from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=done or None)
        self.show = show
        self.bar: Progress | None = None
        if show and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[terms]}"),
            )
            self.bar = Progress(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task("training", total=total, completed=done, terms="")
            self.bar.start()

    @staticmethod
    def _forget_after(path: Path, done: int) -> None:
        """Steps after the checkpoint are trained again, so their lines go."""
        if path.is_file():
            kept = [
                line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}") and json.loads(line)["step"] <= done
            ]
            with atomic_write(path) as partial:
                partial.write_text("".join(f"{line}\n" for line in kept if done), encoding="utf-8")

    def progress(self, step: int, numbers: Mapping[str, float]) -> None:
        """Called after every step, `step` of all phases together counted from 1; cheap."""
        if self.bar is not None:
            self.bar.update(self.task, completed=step, terms=_short(numbers))
        elif self.show and (time.monotonic() - self.spoken > 10 or step == self.total):
            self.spoken = time.monotonic()
            left = (self.spoken - self.started) / max(1, step - self.first) * (self.total - step)
            print(f"step {step}/{self.total}, {left:.0f} s left: {_short(numbers)}", file=sys.stderr, flush=True)

    def record(self, step: int, **values: Any) -> None:
        """One line of JSONL, and every number in it to TensorBoard."""
        if self.file is not None:
            self.file.write(json.dumps({"step": step, **values}) + "\n")
            self.file.flush()
        if self.board is not None:
            for name, value in _numbers(values).items():
                self.board.add_scalar(name, value, step)

    def say(self, text: str) -> None:
        if self.bar is not None:
            self.bar.console.print(text, highlight=False)
        elif self.show:
            print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for closing in (self.bar and self.bar.stop, self.file and self.file.close, self.board and self.board.close):
            if closing:
                closing()


def _short(numbers: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in numbers.items())


def _numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            flat[f"{prefix}{name}"] = float(value)
    return flat
