"""A training run: steps with logs, validation, checkpoints and Ctrl-C."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, default_int_handler, getsignal, signal
from typing import Annotated, Any

import torch
from annotated_types import Ge

from sbirlib.data.batches import Prepared, load
from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Sampler
from sbirlib.options import hold
from sbirlib.training.gather import rank, world_size
from sbirlib.training.log import Log
from sbirlib.training.plan import Plan, len_per_process
from sbirlib.training.randomness import RandomStream, drawn_from
from sbirlib.training.resume import restore, save
from sbirlib.training.steps import Position, StepEvent, steps

logger = logging.getLogger(__name__)
SAVING, SAVED = "saving %s", "saved %s"  # log messages around each checkpoint

Metrics = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Settings of a run that change nothing of its result, but for the device's arithmetic."""

    out: Path | None = None
    resume: bool = False
    device: torch.device = torch.device("cpu")
    workers: Annotated[int, Ge(0)] = 0
    save_every: Annotated[int, Ge(1)] = 500
    log_every: Annotated[int, Ge(1)] = 10
    validate_every: Annotated[int, Ge(1)] | None = None
    progress: bool = True
    tensorboard: bool = True

    def __post_init__(self) -> None:
        hold(Run, vars(self))

    @property
    def checkpoint(self) -> Path | None:
        """The file that the run can be resumed from."""
        return None if self.out is None else self.out / "checkpoint.safetensors"

    @property
    def resumes(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return self.resume and self.checkpoint is not None and self.checkpoint.is_file()


@dataclass(frozen=True)
class Source:
    """Batches of a prepared dataset from any position on, this process's share of each."""

    prepared: Prepared
    seed: int
    workers: int
    device: torch.device

    def __call__(self, sampler: Sampler, start: Position) -> Iterator[tuple[Position, Batch, bool]]:
        """Yield the position after a batch, the batch, and whether it is the last of its epoch, without end."""
        epoch, first = start.epoch, start.batch
        while True:
            lists = sampler.batches(self.prepared.dataset, seed=self.seed, epoch=epoch)
            if first > max(len(lists) - 1, 0):
                raise InputError(
                    f"batch {first} of epoch {epoch} was to be next, and there are {len(lists)}: the checkpoint is of other data"
                )
            shares = [_share(indices) for indices in lists[first:]]
            loaded = load(self.prepared, shares, seed=self.seed, epoch=epoch, workers=self.workers, device=self.device)
            for number, batch in enumerate(loaded, first + 1):
                last = number == len(lists)
                yield Position(epoch=epoch + last, batch=0 if last else number), batch, last
            epoch, first = epoch + 1, 0


def _share(indices: list[int]) -> list[int]:
    """This process's rows of a batch, in rank order."""
    each = len_per_process(indices, processes=world_size())
    return indices[rank() * each : (rank() + 1) * each]


def train(
    plan: Plan,
    source: Source,
    stream: RandomStream,
    run: Run,
    *,
    about: Mapping[str, Any],
    validate: Callable[[], Metrics] | None = None,
    on_step: Callable[[StepEvent], object] | None = None,
) -> None:
    """Train by the plan, from the checkpoint in `run.out` if `run.resume`. `about` describes the model in every checkpoint."""
    start = _start(plan, run, stream, about)
    done, first = plan.steps_before(start.phase) + start.step, rank() == 0
    if done == plan.total:
        return
    log = Log(run.out if first else None, total=plan.total, done=done, show=run.progress and first, tensorboard=run.tensorboard)
    with log, _interruptible() as interrupted:
        clock = time.monotonic()
        for event in drawn_from(stream, steps(plan, source, start)):
            last = event.done == plan.total
            log.progress(event.done, event.losses)
            if event.done % run.log_every == 0 or last:
                log.step(event, images_per_second=len(event.step.batch) * world_size() / (time.monotonic() - clock))
            if validate is not None and (last or (run.validate_every and event.done % run.validate_every == 0)):
                metrics = validate()
                log.record(event.done, validation=dict(metrics))
                logger.info("step %d: on validation %s", event.done, ", ".join(f"{k} {v:.3f}" for k, v in metrics.items()))
            if on_step is not None:
                on_step(event)
            if event.done % run.save_every == 0 or last or interrupted():
                _save(plan, event, run, stream, about)
            if interrupted():
                raise KeyboardInterrupt(_farewell(event, run))
            clock = time.monotonic()


def _start(plan: Plan, run: Run, stream: RandomStream, about: Mapping[str, Any]) -> Position:
    """The place to start at: that of the run's checkpoint, which is loaded, or the beginning where there is none."""
    if not run.resume:
        return Position()
    if run.checkpoint is None:
        raise InputError("resume=True needs out=FOLDER, the folder of the run to go on with")
    return restore(run.checkpoint, plan, stream, about) if run.checkpoint.is_file() else Position()


def _save(plan: Plan, event: StepEvent, run: Run, stream: RandomStream, about: Mapping[str, Any]) -> None:
    if run.checkpoint is None or rank() != 0:
        return
    logger.debug(SAVING, run.checkpoint)
    save(run.checkpoint, plan, event.position, stream, about)
    logger.debug(SAVED, run.checkpoint)


def _farewell(event: StepEvent, run: Run) -> str:
    way = f"saved in {run.checkpoint}: go on with resume=True (--resume)" if run.out else "not saved: that needs out=FOLDER"
    message = f"stopped after step {event.done} of {event.total}; {way}"
    logger.warning(message)
    return message


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C waits for the step to end, so that it can be saved; the second stops at once."""
    requests: list[bool] = []

    def request(*_: object) -> None:
        if requests:
            raise KeyboardInterrupt
        requests.append(True)

    previous = getsignal(SIGINT)
    ours = previous is default_int_handler
    if ours:
        signal(SIGINT, request)
    try:
        yield lambda: bool(requests)
    finally:
        if ours:
            signal(SIGINT, previous)
