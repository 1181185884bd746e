"""Logs of a training run: a progress bar for people, JSONL and TensorBoard for plots."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TextIO

import numpy as np
from PIL import Image
from tqdm import tqdm

from sbirlib.device import memory_in_use
from sbirlib.errors import InputError
from sbirlib.files import atomic_write
from sbirlib.training.live import Live
from sbirlib.training.steps import StepEvent

logger = logging.getLogger(__name__)


class Log:
    """Writes `log.jsonl` and TensorBoard events into `folder` (None: nowhere), and shows a live table or a progress bar on stderr.

    Nothing is created before the first record, so that a run which fails at its start leaves no file.
    """

    def __init__(self, folder: Path | None, *, total: int, done: int = 0, show: bool = True, tensorboard: bool = True) -> None:
        self.folder, self.done, self.tensorboard = folder, done, tensorboard
        self.file: TextIO | None = None
        self.board: Any = None
        self.live = Live(total) if show and sys.stderr.isatty() else None
        hidden = not show or self.live is not None
        self.bar = tqdm(total=total, initial=done, desc="training", unit="step", mininterval=10.0, file=sys.stderr, disable=hidden)
        self.last = (time.monotonic(), done, 0.0)  # time, step and seconds of waiting at the last record of a step

    def progress(self, step: int) -> None:
        """Advance the bar to `step`, counted from 1 over all phases; cheap."""
        if not self.bar.disable:
            self.bar.update(step - self.bar.n)

    def step(self, event: StepEvent, logged: Mapping[str, float], *, images: int, waiting: float) -> None:
        """Record a finished step of so many images: losses, values that they logged, rates of parameter groups, speed, waiting and memory."""
        now, done, waited = time.monotonic(), *self.last[1:]
        seconds = max(now - self.last[0], 1e-9)
        self.last = (now, event.done, waiting)
        place = {"phase": event.phase, "epoch": event.position.epoch, "lr": dict(event.lr)}
        values = {"losses": dict(event.losses), "logged": dict(logged)}
        speed = {
            "images_per_second": images * (event.done - done) / seconds,
            "waiting": min((waiting - waited) / seconds, 1.0),
            "memory": memory_in_use(event.step.batch.images.device),
        }
        self.record(event.done, **place, **values, **speed)
        if self.live is not None:
            self.live.show(event.done, {**place, **values, **speed})
        elif not self.bar.disable:
            self.bar.set_postfix_str("  ".join(f"{name} {value:.3g}" for name, value in event.losses.items()), refresh=False)

    def record(self, step: int, **values: Any) -> None:
        """Write one line of JSONL, and every number in it to TensorBoard."""
        if self.folder is None:
            return
        with self._written():
            if self.file is not None and not Path(self.file.name).exists():
                logger.warning("%s has vanished, and is made again: what was in it is lost", self.folder)
                self._close()
            if self.file is None:
                self._open(self.folder)
            assert self.file is not None
            self.file.write(json.dumps({"step": step, **values}) + "\n")
            self.file.flush()
            if self.board is not None:
                for name, value in _numbers(values).items():
                    self.board.add_scalar(name, value, step)

    def picture(self, step: int, draw: Callable[[], Image.Image]) -> None:
        """Save the picture of a step's retrievals, `retrievals/STEP.png`, to TensorBoard too."""
        if self.folder is None:
            return
        image = draw()
        with atomic_write(self.folder / "retrievals" / f"{step:08d}.png") as partial:
            image.save(partial, format="PNG")
        if self.board is not None:
            with self._written():
                self.board.add_image("retrievals", np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def _open(self, folder: Path) -> None:
        path = folder / "log.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():
                raise OSError(0, f"{path.name} is no file")
            _drop_lines_after(path, self.done)
            self.file = open(path, "a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"nothing can be written in {folder} ({error.strerror}): choose another out=FOLDER (--out)") from error
        if self.tensorboard:
            self.board = _board(folder / "tensorboard", self.done)

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Tell a full disk as wrong input; TensorBoard's own thread writes, and a later call raises its error."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"the log in {self.folder} could not be written ({error.strerror or error}); the checkpoints there are untouched: make room, and go "
                "on from the last one with resume=True (--resume)"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bar.close()
        if self.live is not None:
            self.live.close()
        with self._written() if kind is None else suppress(OSError):  # an error of the run stays the one that is told
            self._close()

    def _close(self) -> None:
        with ExitStack() as stack:
            for file in filter(None, (self.file, self.board)):
                stack.callback(file.close)
            self.file = self.board = None


def _board(folder: Path, done: int) -> Any:
    """A writer of TensorBoard events from a step on; None without the extra `train`."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("no events for TensorBoard, which is not installed (pip install 'sbirlib[train]'): log.jsonl holds all values")
        return None
    return SummaryWriter(str(folder), purge_step=done or None)


def _drop_lines_after(path: Path, done: int) -> None:
    """Remove the lines of steps after the checkpoint, which are trained again, and lines that are damaged or not whole."""
    if path.is_file():
        lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if _step(line) <= done]
        with atomic_write(path) as partial:
            partial.write_text("".join(f"{line}\n" for line in lines if done), encoding="utf-8")


def _step(line: str) -> float:
    """The step of a line; infinite for a line that is no record."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return float("inf")
    return step if isinstance(step, int) else float("inf")


def _numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            flat[f"{prefix}{name}"] = float(value)
    return flat
