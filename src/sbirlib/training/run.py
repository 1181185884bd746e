"""A training run: steps with logs, validation, checkpoints and interruption."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIG_DFL, SIGINT, SIGTERM, Signals, default_int_handler, getsignal, signal
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from PIL import Image

from sbirlib.errors import InputError
from sbirlib.options import options_of, refuse
from sbirlib.processes import everyone, largest, on_first, rank, world_size
from sbirlib.training import checkpoint
from sbirlib.training.average import share_buffers
from sbirlib.training.best import Best
from sbirlib.training.compilation import compiled
from sbirlib.training.description import Chosen
from sbirlib.training.ema import Ema
from sbirlib.training.interpolation import choose_share
from sbirlib.training.log import Log
from sbirlib.training.output import BEST, CHECKPOINT, held_by_this_run, save_last
from sbirlib.training.plan import Plan
from sbirlib.training.randomness import RandomStream, drawn_from
from sbirlib.training.resume import contents, restore
from sbirlib.training.sharding import Shards, places
from sbirlib.training.shortage import shortage
from sbirlib.training.source import Source
from sbirlib.training.steps import Position, StepEvent, steps

logger = logging.getLogger(__name__)

Metrics = Mapping[str, float]
Validate = Callable[[], tuple[Metrics, Callable[[], Image.Image] | None]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Settings of a run that change nothing of its result, but for the device's arithmetic."""

    out: Path | None = None
    resume: bool = False
    device: torch.device = torch.device("cpu")
    workers: Annotated[int, Ge(0)] | None = None
    save_every: Annotated[int, Ge(1)] = 500
    save_minutes: Annotated[float, Gt(0)] | None = None
    keep: Annotated[int, Ge(1)] = 1
    log_every: Annotated[int, Ge(1)] = 10
    progress: bool = True
    tensorboard: bool = True
    shard: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for values that the annotations do not allow, by their names in Python and on the command line."""
        faults: list[str] = []
        for name, option in options_of(Run).items():
            try:
                option.read(getattr(self, name))
            except ValueError as error:
                faults.append(f"{name} (--{name.replace('_', '-')}) = {error}")
        refuse(faults)

    @property
    def checkpoint(self) -> Path | None:
        """The file that the run can be resumed from."""
        return None if self.out is None else self.out / CHECKPOINT

    @property
    def resumes(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        path = self.checkpoint
        return self.resume and path is not None and bool(on_first(path.is_file))

    def check_new(self) -> None:
        """Raise InputError where a new run would write over an earlier one."""
        if self.checkpoint is not None and not self.resume and on_first(self.checkpoint.exists):
            raise InputError(
                f"{self.out} holds the checkpoint of an earlier run: resume=True (--resume) goes on with it; "
                "a new run needs another out=FOLDER (--out)"
            )


def train(
    plan: Plan,
    source: Source,
    stream: RandomStream,
    run: Run,
    *,
    about: Mapping[str, Any],
    validate: Validate | None = None,
    on_step: Callable[[StepEvent], object] | None = None,
) -> Chosen | None:
    """Train by the plan, from the checkpoint in `run.out` if `run.resume`. `about` describes the model in every checkpoint.

    Where the recipe validates, the model ends with its best weights, whose step is returned; where it interpolates, with those of the best share; and
    where it has a decay `ema`, these are weights of the average.
    """
    best = None if plan.recipe.validate is None else Best(plan.recipe.validate)
    ema = Ema(plan.recipe.ema)
    with ExitStack() as stack:
        if run.out is not None:
            folder = held_by_this_run(run.out, plan.model, run.keep + (best is not None))
            on_first(lambda: stack.enter_context(folder))
        shards = Shards(places(plan.model.encoder) if run.shard else (), run.device)
        plan = plan.renewed() if run.shard else plan
        with shards.whole():
            start = _start(plan, run, stream, about, best, ema)
        session = _Session(plan, source, stream, run, about, validate, best, ema, plan.steps_before(start.phase) + start.step, shards)
        session.complete()
        if session.done < plan.total and not (best and best.exhausted):
            if plan.recipe.compile:
                with RandomStream(plan.recipe.seed, "compile", run.device):
                    batch = source.first(plan.phases[start.phase].sampler)
                    stack.enter_context(compiled(plan.model.encoder, batch, plan.recipe.precision))
            session.run(start, on_step)
        elif best and best.exhausted:
            logger.info("no step is left: the patience of validation had ended after step %d of %d", session.done, plan.total)
        shards.close()
    ema.load(plan.model)
    if best is not None:
        best.load(plan.model)
    choice = best.chosen if best else None
    if plan.recipe.interpolate is None or validate is None:
        return choice
    return choose_share(plan.model, plan.recipe, validate, choice.step if choice else plan.total)


class _Session:
    """One session of a run, from its start or its checkpoint to its end or an interruption."""

    def __init__(
        self,
        plan: Plan,
        source: Source,
        stream: RandomStream,
        run: Run,
        about: Mapping[str, Any],
        validate: Validate | None,
        best: Best | None,
        ema: Ema,
        done: int,
        shards: Shards,
    ) -> None:
        self.plan, self.source, self.stream, self.run_, self.about = plan, source, stream, run, about
        self.validate, self.best, self.ema, self.done, self.shards = validate, best, ema, done, shards
        first = rank() == 0
        self.log = Log(run.out if first else None, total=plan.total, done=done, show=run.progress and first, tensorboard=run.tensorboard)

    def complete(self) -> None:
        """Write the best weights that a kill after the checkpoint left unwritten; without them the next kill would lose them."""
        if self.best is not None and self.best.chosen is not None and self.best.chosen.step == self.done:
            self._save_best()

    def run(self, start: Position, on_step: Callable[[StepEvent], object] | None) -> None:
        """Train from a position to the end; an interruption is saved, and raised as KeyboardInterrupt."""
        run, saved = self.run_, time.monotonic()
        check_every = 1 if run.device.type == "cpu" else run.log_every
        with self.log, interruptible() as interrupted:
            if self.best is not None and self.done == 0:
                self._validated(0)  # a metric that is not there is named before the first step
                self._save_best()
            for event in self._steps(start, check_every):
                last = event.done == self.plan.total
                self.ema.update(self.plan.model, event.done)
                self.log.progress(event.done)
                if event.done % run.log_every == 0 or last:
                    self._log(event)
                improved = self._due(event, last) and self._validated(event.done)
                ends = self.best is not None and self.best.exhausted
                if on_step is not None:
                    on_step(event)
                late = run.save_minutes is not None and time.monotonic() - saved > 60 * run.save_minutes
                stop, late = map(bool, largest([interrupted(), late and rank() == 0]))
                if improved or late or stop or last or ends or event.done % run.save_every == 0:
                    self._save(event, improved)
                    saved = time.monotonic()
                if stop:
                    raise KeyboardInterrupt(_farewell(event, run))
                if ends and not last:
                    logger.info("stopped after step %d of %d: the patience of validation has ended", event.done, event.total)
                    return

    def _steps(self, start: Position, check_every: int) -> Iterator[StepEvent]:
        """The steps; a lack of memory is told with the way out."""
        place = start
        events = drawn_from(self.stream, steps(self.plan, self.source, start, check_every=check_every))
        while True:
            try:
                event = next(events, None)
            except (RuntimeError, MemoryError) as error:
                number = place.phase + (place.step == self.plan.phases[place.phase].phase.steps)
                this = self.plan.phases[number]
                images = self.source.images(this.sampler)
                if fault := shortage(error, phase=number, images=images, chunk=this.phase.chunk, device=self.run_.device):
                    raise fault from error
                raise
            if event is None:
                return
            place = event.position
            yield event

    def _log(self, event: StepEvent) -> None:
        logged = {name: float(value) for name, value in event.step.logged.items()}
        if world_size() > 1:
            everywhere = everyone(logged)
            logged = {
                name: sum(values[name] for values in everywhere) / len(everywhere) for name in logged if all(name in v for v in everywhere)
            }
        self.stream.agree()
        self.log.step(event, logged, images=len(event.step.batch) * world_size() * self.plan.phases[event.phase].phase.accumulate,
                      waiting=self.source.waiting.seconds)  # fmt: skip

    def _due(self, event: StepEvent, last: bool) -> bool:
        if self.validate is None:
            return False
        return last if self.best is None else last or event.done % self.best.settings.every == 0

    def _validated(self, step: int) -> bool:
        """Validate; return whether the weights are the best so far."""
        assert self.validate is not None
        if any(this.phase.batch_norm == "local" for this in self.plan.phases):
            share_buffers(self.plan.model)
        with self.shards.whole(), self.ema.worn(self.plan.model):
            metrics, picture = self.validate()
            improved = self.best is not None and self.best.take(metrics, step, self.plan.model)
        self.log.record(step, validation=dict(metrics))
        if picture is not None:
            self.log.picture(step, picture)
        best = f"; the best is step {self.best.chosen.step}" if self.best and self.best.chosen else ""
        logger.info("step %d: on validation %s%s", step, ", ".join(f"{k} {v:.3f}" for k, v in metrics.items()), best)
        return improved

    def _save(self, event: StepEvent, improved: bool) -> None:
        """Save the checkpoint, and after it the best weights, so that a kill in between loses neither."""
        if self.run_.out is None or (rank() != 0 and not self.shards.blocks):
            return
        with self.shards.whole():
            tensors, about = contents(self.plan, event.position, self.stream, self.about, self.best, self.ema)
        if rank() != 0:
            return
        save_last(self.run_.out, lambda path: checkpoint.write(path, tensors, about), event.done, self.run_.keep)
        if improved:
            self._save_best()

    def _save_best(self) -> None:
        if self.run_.out is not None and rank() == 0 and self.best is not None and self.best.chosen is not None:
            checkpoint.write(self.run_.out / BEST, self.best.tensors, {**self.about, "chosen": self.best.chosen.model_dump()})


def _start(plan: Plan, run: Run, stream: RandomStream, about: Mapping[str, Any], best: Best | None, ema: Ema) -> Position:
    """The place to start at: that of the run's checkpoint, which is loaded, or the beginning where there is none."""
    if not run.resume:
        return Position()
    if run.checkpoint is None or run.out is None:
        raise InputError("resume=True (--resume) needs out=FOLDER (--out), the folder of the run to go on with")
    return restore(run.checkpoint, plan, stream, about, best, ema) if run.resumes else Position()


def _farewell(event: StepEvent, run: Run) -> str:
    way = f"saved in {run.checkpoint}: go on with resume=True (--resume)" if run.out else "not saved: that needs out=FOLDER (--out)"
    message = f"stopped after step {event.done} of {event.total}; {way}"
    logger.warning(message)
    return message


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C, or SIGTERM, waits for the step to end, so that it can be saved; the second stops at once."""
    requests: list[int] = []

    def request(*_: object) -> None:
        if requests:
            raise KeyboardInterrupt
        requests.append(1)

    defaults: dict[Signals, Any] = {SIGINT: default_int_handler, SIGTERM: SIG_DFL}
    ours: list[Signals] = []
    try:
        for number, default in defaults.items():
            if getsignal(number) is default:
                signal(number, request)
                ours.append(number)
    except ValueError:  # not the main thread, to which signals go
        pass
    try:
        yield lambda: bool(requests)
    finally:
        for number in ours:
            signal(number, defaults[number])
