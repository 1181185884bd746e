"""Profile of training steps: time of each part, of each loss and of the slowest operators, images a second, and peak memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import nn
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, record_function

from sbirlib.data.batches import Prepared, default_workers
from sbirlib.data.dataset import Dataset
from sbirlib.device import find_device
from sbirlib.errors import InputError
from sbirlib.options import hold
from sbirlib.pipeline import Pipeline
from sbirlib.progress import track
from sbirlib.threads import cores
from sbirlib.training.steps import StepEvent

PREFIX = "sbirlib:"  # of the labels around the parts of a step
PARTS = ("load", "encode", "gather", "losses", "backward", "average", "update")
LOSS = "loss "  # begins the label of one loss; of the miner: MINER
MINER = "miner"
WARM_UP = 5  # steps before any is timed: the first ones choose kernels and fill caches
TOP = 8  # operators that are named


@dataclass(frozen=True)
class Span:
    """Milliseconds a step: on the host, and of kernels on a GPU that were launched in between."""

    host: float = 0.0
    gpu: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Time and memory of a training step.

    `parts` are the parts of a step by name, without the parts inside them; `losses` the losses and the miner, as far as they are called;
    `operators` the slowest, with their calls a step. `step` is the milliseconds of a step while the profiler runs, of which parts are shares;
    `images_per_second` was timed without it. `cached`: memory holds all prepared images.
    """

    parts: Mapping[str, Span]
    losses: Mapping[str, Span] = field(default_factory=dict)
    operators: Sequence[tuple[str, Span, float]] = ()
    step: float
    images: int
    images_per_second: float
    peak_memory: int
    memory: int = 0
    device: str = "cpu"
    precision: str = "float32"
    workers: int = 0
    cached: bool = False
    cores: int = 1
    threads: int = 1

    @property
    def on_gpu(self) -> bool:
        """Whether the steps ran on a GPU."""
        return self.device.startswith("cuda")

    @property
    def idle(self) -> float:
        """The share of a step in which no kernel ran on the GPU; 0 on the CPU."""
        return max(0.0, 1 - sum(part.gpu for part in self.parts.values()) / self.step) if self.on_gpu else 0.0

    def time(self, span: Span, part: str = "") -> float:
        """Milliseconds that count: of kernels on a GPU, but for the wait for images; of the host elsewhere."""
        return span.gpu if self.on_gpu and part != "load" else span.host

    def share(self, part: str) -> float:
        """The share of a step that a part takes."""
        return self.time(self.parts.get(part, Span()), part) / self.step

    def loss_shares(self) -> dict[str, float]:
        """The shares of a step of the losses and the miner, the largest first."""
        shares = {name: self.time(span) / self.step for name, span in self.losses.items()}
        return dict(sorted(shares.items(), key=lambda item: -item[1]))


@dataclass(frozen=True, kw_only=True)
class _Settings:
    steps: Annotated[int, Ge(1)]
    workers: Annotated[int, Ge(0)] | None

    def __post_init__(self) -> None:
        hold(_Settings, vars(self))


def steps_of(steps: int) -> int:
    """The training steps that a profile of `steps` steps takes: some to warm up, these without the profiler, and these with it."""
    return WARM_UP + 2 * steps


def profile(
    pipeline: Pipeline, dataset: Dataset, *, steps: int = 20, device: str | None = None, workers: int | None = None, progress: bool = True
) -> Profile:
    """Train the pipeline for `steps_of(steps)` steps on the training split, and profile the last `steps` of them.

    The pipeline is trained by it: give one that was built for this. Its first phase with steps must have as many; `phase_alone` builds it so,
    with everything thawed that a recipe freezes at first.

    >>> from sbirlib.phase_alone import phase_alone
    >>> alone = phase_alone(pipeline.recipe.tables(), {}, steps=steps_of(2))
    >>> 0 < profile(alone.pipeline, dataset, steps=2, progress=False).share("encode") < 1
    True
    """
    _Settings(steps=steps, workers=workers)
    plan, place = pipeline.plan(dataset), find_device(device)
    prepared = Prepared(dataset.train, pipeline.transform)
    workers = default_workers(prepared) if workers is None else workers
    count = next((phase.phase.steps for phase in plan.phases if phase.phase.steps), 0)
    if count < steps_of(steps):
        raise InputError(f"a profile of {steps} steps trains {steps_of(steps)}, and the first phase with steps has {count}: give it more")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if place.type == "cuda" else [])]
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
    events: Iterator[StepEvent] = islice(pipeline.steps(dataset, device=str(place), workers=workers), steps_of(steps))
    events = iter(track(events, total=steps_of(steps), label="profile")) if progress else events
    _run(events, WARM_UP, place)
    plain, images = _run(events, steps, place)
    with _labelled(pipeline), torch.profiler.profile(activities=activities) as profiler:
        profiled, _ = _run(events, steps, place)
    traced = list(profiler.events() or [])
    return Profile(
        parts=attribute(traced, {f"{PREFIX}{part}": part for part in PARTS}, steps),
        losses=attribute(traced, {f"{PREFIX}{name}": name for name in _loss_labels(pipeline)}, steps),
        operators=_operators(profiler, steps, gpu=place.type == "cuda"),
        step=1000 * profiled / steps,
        images=images // steps,
        images_per_second=images / plain,
        peak_memory=_peak_memory(place),
        memory=torch.cuda.get_device_properties(place).total_memory if place.type == "cuda" else 0,
        device=str(place),
        precision=pipeline.recipe.precision,
        workers=workers,
        cached=prepared.cache is not None,
        cores=cores(),
        threads=torch.get_num_threads(),
    )


def _run(events: Iterator[StepEvent], steps: int, device: torch.device) -> tuple[float, int]:
    """Take some steps; return the seconds, until the device has done them, and the images of their batches."""
    start, images = time.perf_counter(), 0
    for event in islice(events, steps):
        images += len(event.step.batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, images


def attribute(events: Sequence[Any], labels: Mapping[str, str], steps: int) -> dict[str, Span]:
    """Milliseconds a step of each label among a profiler's events, without those of labels inside it.

    A kernel belongs to the innermost label during which it was launched, in whatever thread: autograd's own launches those of the backward pass.
    """
    spans = [event for event in events if event.name in labels and event.device_type == DeviceType.CPU]
    inside = {id(span): [other for other in spans if _within(other, span)] for span in spans}
    host, gpu = (dict.fromkeys(labels, 0.0) for _ in range(2))
    for span in spans:
        nested = inside[id(span)]
        direct = [other for other in nested if not any(_within(other, between) for between in nested)]
        host[span.name] += _length(span) - sum(map(_length, direct))
    for event in events:
        kernels = [kernel for kernel in getattr(event, "kernels", ()) if not kernel.name.startswith(PREFIX)]
        if kernels and event.device_type == DeviceType.CPU and not event.name.startswith(PREFIX):
            around = [span for span in spans if span.time_range.start <= event.time_range.start < span.time_range.end]
            if around:
                gpu[min(around, key=_length).name] += sum(kernel.duration for kernel in kernels)
    return {name: Span(host[label] / 1000 / steps, gpu[label] / 1000 / steps) for label, name in labels.items()}


def _within(inner: Any, outer: Any) -> bool:
    """Whether one event lies inside another of the same thread."""
    one, other = inner.time_range, outer.time_range
    return inner is not outer and inner.thread == outer.thread and other.start <= one.start and one.end <= other.end


def _length(event: Any) -> float:
    """Microseconds of an event."""
    return float(event.time_range.end - event.time_range.start)


@contextmanager
def _labelled(pipeline: Pipeline) -> Iterator[None]:
    """Labels around each call of each loss and of the miner."""
    modules: dict[str, nn.Module] = {f"{LOSS}{name}": loss for name, loss in pipeline.losses.items()}
    if pipeline.model.miner is not None:
        modules[MINER] = pipeline.model.miner
    with ExitStack() as stack:
        for name, module in modules.items():
            for handle in _hooks(module, f"{PREFIX}{name}"):
                stack.callback(handle.remove)
        yield


def _hooks(module: nn.Module, label: str) -> list[Any]:
    """Hooks that open a label before the module is called and close it afterwards."""
    labels: list[record_function] = []

    def opened(*_: Any) -> None:
        labels.append(record_function(label))
        labels[-1].__enter__()

    def closed(*_: Any) -> None:
        labels.pop().__exit__(None, None, None)

    return [module.register_forward_pre_hook(opened), module.register_forward_hook(closed, always_call=True)]


def _loss_labels(pipeline: Pipeline) -> list[str]:
    return [*(f"{LOSS}{name}" for name in pipeline.losses), *([MINER] if pipeline.model.miner is not None else [])]


def _operators(profiler: Any, steps: int, *, gpu: bool) -> list[tuple[str, Span, float]]:
    """The operators that take most time by themselves, with their calls a step."""
    rows = [row for row in profiler.key_averages() if row.device_type == DeviceType.CPU and not row.key.startswith((PREFIX, "Profiler"))]
    spans = [
        (row.key, Span(row.self_cpu_time_total / 1000 / steps, row.self_device_time_total / 1000 / steps), row.count / steps)
        for row in rows
    ]
    return sorted(spans, key=lambda row: -(row[1].gpu if gpu else row[1].host))[:TOP]


def _peak_memory(device: torch.device) -> int:
    """The most bytes that tensors took on a GPU, or this process in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
