"""The training loop: one function, read from top to bottom, that names no method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from signal import SIGINT, default_int_handler, getsignal, signal
from typing import Any

import torch
from torch import Tensor

from sbirlib import registry
from sbirlib.data.batches import Prepared, load
from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Sampler, Step
from sbirlib.recipe import Phase, Recipe
from sbirlib.training import checkpoint
from sbirlib.training.gather import average_gradients, gather, rank, world_size
from sbirlib.training.log import Log
from sbirlib.training.model import Model
from sbirlib.training.objective import discriminator_terms, finite, terms, weighed
from sbirlib.training.rules import Rules, scale_rates

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """How to train, as opposed to what: nothing in here changes the result, but for the device's arithmetic."""

    out: Path | None = None
    resume: bool = False
    device: torch.device = torch.device("cpu")
    workers: int = 0
    save_every: int = 500
    log_every: int = 10
    validate_every: int | None = None
    show: bool = True
    tensorboard: bool = True

    @property
    def checkpoint(self) -> Path | None:
        return None if self.out is None else self.out / "checkpoint.safetensors"


@dataclass(frozen=True)
class Position:
    """Where training stands: the step to do next, its phase, its epoch and the batch within it."""

    phase: int = 0
    step: int = 0
    epoch: int = 0
    batch: int = 0


def train(
    model: Model,
    recipe: Recipe,
    prepared: Prepared,
    samplers: Sequence[Sampler],
    run: Run,
    *,
    about: Mapping[str, Any],
    validate: Callable[[], Metrics] | None = None,
) -> None:
    """Train a model by its recipe's phases on prepared images, each with its sampler, from the checkpoint in `run.out` if `run.resume`."""
    position, saved = _restore(model, recipe, run) if run.resume else (Position(), None)
    before = sum(phase.steps for phase in recipe.phases[: position.phase])
    done, total = before + position.step, sum(phase.steps for phase in recipe.phases)
    if done == total:
        return
    speaks = rank() == 0
    log = Log(run.out if speaks else None, total=total, done=done, show=run.show and speaks, tensorboard=run.tensorboard)
    with log, _interruptible() as interrupted:
        for number in range(position.phase, len(recipe.phases)):
            phase = recipe.phases[number]
            rules = Rules(model, phase)
            optimizers = _optimizers(rules, phase)
            if saved is not None:
                checkpoint.unpack(optimizers, saved[0], saved[1]["optimizers"])
            schedule = registry.construct("schedule", phase.schedule)
            batches = _stream(samplers[number], prepared, recipe, run, position)
            rules.apply(position.step)
            if saved is not None:  # after everything above that may have drawn
                _set_random_state(saved[0])
                saved = None
            for count in range(position.step, phase.steps):
                clock = time.monotonic()
                if count in rules.turning_points:
                    rules.apply(count)
                lr = scale_rates(list(optimizers.values()), schedule.factor(count, phase.steps))
                position, batch, last = next(batches)
                step = forward(model, phase, batch, progress=count / phase.steps, precision=recipe.precision)
                found = terms(model, phase, step)
                numbers = finite(found, f"step {done + 1} (phase {number}, step {count + 1})")
                _descend(optimizers["encoder"], weighed(found, phase, step.progress), phase)
                if "discriminator" in optimizers:
                    rules.turn(count, opponents=True)
                    found = discriminator_terms(model, phase, step.detach())
                    numbers |= finite(found, f"step {done + 1} (phase {number}, step {count + 1})")
                    _descend(optimizers["discriminator"], torch.stack(list(found.values())).sum(), phase)
                    rules.turn(count, opponents=False)
                for part in rules.parts(count):
                    part.after_step(step)
                    if last:
                        part.end_epoch()
                done += 1
                position = replace(position, phase=number, step=count + 1)
                log.progress(done, numbers)
                if done % run.log_every == 0 or done == total:
                    rate = len(batch) * world_size() / (time.monotonic() - clock)
                    extra = {name: value.item() for name, value in step.logged.items()}
                    log.record(done, phase=number, epoch=position.epoch, lr=lr, losses=numbers, logged=extra, images_per_second=rate)
                if validate is not None and (done == total or (run.validate_every and done % run.validate_every == 0)):
                    metrics = validate()
                    log.record(done, validation=dict(metrics))
                    log.say(f"step {done}: on validation " + ", ".join(f"{k} {v:.3f}" for k, v in metrics.items()))
                if done % run.save_every == 0 or done == total or interrupted():
                    _save(model, optimizers, position, recipe, run, about)
                if interrupted():
                    way = f"saved in {run.checkpoint}: go on with resume=True (--resume)" if run.out else "not saved: that needs out=FOLDER"
                    said = f"stopped after step {done} of {total}; {way}"
                    log.say(said)
                    raise KeyboardInterrupt(said)
            position = Position(phase=number + 1, epoch=position.epoch + (position.batch > 0))


def forward(model: Model, phase: Phase, batch: Batch, *, progress: float, precision: str = "float32") -> Step:
    """Encode one batch and gather the rows of all processes: what the losses of a phase see."""
    encoder = model.encoder.get_submodule(phase.encoder) if phase.encoder else model.encoder
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        local = encoder(batch)
    return Step(gather(local), encoder=model.encoder, batch=batch, local=local, miner=model.miner, progress=progress)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor, phase: Phase) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    average_gradients(parameters)
    if phase.clip is not None:
        torch.nn.utils.clip_grad_norm_(parameters, phase.clip)
    optimizer.step()


def _optimizers(rules: Rules, phase: Phase) -> dict[str, torch.optim.Optimizer]:
    made = {}
    for name, table in (("encoder", phase.optimizer), ("discriminator", phase.discriminator or phase.optimizer)):
        if groups := rules.groups(opponents=name == "discriminator"):
            options = {k: v for k, v in table.items() if k != "name"}
            made[name] = registry.load("optimizer", table["name"])(groups, **options)
    if "encoder" not in made:
        raise InputError("nothing trains in this phase: its rules freeze every parameter")
    return made


def _stream(sampler: Sampler, prepared: Prepared, recipe: Recipe, run: Run, start: Position) -> Iterator[tuple[Position, Batch, bool]]:
    """Batches without end, each with the position after it and whether it was the last of its epoch."""
    epoch, first = start.epoch, start.batch
    while True:
        lists = sampler.batches(prepared.dataset, seed=recipe.seed, epoch=epoch)
        mine = [_share(indices) for indices in lists[first:]]
        for number, batch in enumerate(
            load(prepared, mine, seed=recipe.seed, epoch=epoch, workers=run.workers, device=run.device), first + 1
        ):
            last = number == len(lists)
            yield Position(epoch=epoch + last, batch=0 if last else number), batch, last
        epoch, first = epoch + 1, 0


def _share(indices: list[int]) -> list[int]:
    """This process's rows of a batch, in rank order."""
    if len(indices) % world_size():
        raise InputError(
            f"a batch of {len(indices)} images cannot be shared evenly by {world_size()} processes: change the sampler's sizes"
        )
    each = len(indices) // world_size()
    return indices[rank() * each : (rank() + 1) * each]


def _save(
    model: Model, optimizers: Mapping[str, torch.optim.Optimizer], position: Position, recipe: Recipe, run: Run, about: Mapping[str, Any]
) -> None:
    if run.checkpoint is None or rank() != 0:
        return
    tensors, rest = checkpoint.pack(optimizers)
    training = {"position": asdict(position), "optimizers": rest, "recipe_digest": recipe.digest}
    checkpoint.write(run.checkpoint, model.tensors() | tensors | _random_state(run.device), {**about, "training": training})


def _restore(model: Model, recipe: Recipe, run: Run) -> tuple[Position, tuple[dict[str, Tensor], dict[str, Any]] | None]:
    if run.checkpoint is None:
        raise InputError("resume=True needs out=FOLDER, the folder of the run to go on with")
    if not run.checkpoint.is_file():
        return Position(), None
    tensors, about = checkpoint.read(run.checkpoint)
    if about["training"]["recipe_digest"] != recipe.digest:
        there, here = Recipe.of(about["recipe"]).tables(), recipe.tables()
        differing = ", ".join(key for key in here if here[key] != there[key])
        raise InputError(
            f"{run.checkpoint} was made by another recipe (they differ in: {differing}): train it with that one, or choose another out=FOLDER"
        )
    model.load_state_dict({k: v for k, v in tensors.items() if not k.startswith(("optimizer.", "rng."))})
    return Position(**about["training"]["position"]), (tensors, about["training"])


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"rng.cpu": torch.get_rng_state()}
    return state | {"rng.cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def _set_random_state(tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors["rng.cpu"])
    if "rng.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng.cuda"])


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C waits for the step to end, so that it can be saved; the second stops at once."""
    asked: list[bool] = []

    def ask(*_: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)

    previous = getsignal(SIGINT)
    mine = previous is default_int_handler
    if mine:
        signal(SIGINT, ask)
    try:
        yield lambda: bool(asked)
    finally:
        if mine:
            signal(SIGINT, previous)
