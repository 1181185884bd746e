"""Profile of training steps: attribution of times to parts on events that are known, and a real profile."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from sbirlib import split
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.phase_alone import phase_alone
from sbirlib.profiling.profile import PARTS, Profile, Span, attribute, profile, steps_of
from sbirlib.testing.world import separable

SMALL: dict[str, Any] = {
    "encoder": {"backbone": "resnet10t", "pretrained": False, "dim": 8},
    "transform": {"size": 32},
    "sampler": {"categories": 2, "per_modality": 2},
}


@pytest.fixture(scope="module")
def parts() -> Dataset:
    data = separable()
    return split(data, list(data.categories[-2:]))


@dataclass
class Event:
    """An event of the profiler, in microseconds."""

    name: str
    start: float
    end: float
    thread: int = 1
    device_type: DeviceType = DeviceType.CPU
    kernels: list[Any] = field(default_factory=list)

    @property
    def time_range(self) -> Any:
        return SimpleNamespace(start=self.start, end=self.end)


def kernel(name: str, duration: float) -> Any:
    return SimpleNamespace(name=name, duration=duration)


LABELS = {f"sbirlib:{part}": part for part in PARTS}


def test_a_part_has_its_own_time_without_that_of_parts_inside_it() -> None:
    events = [
        Event("sbirlib:load", 0, 1000),
        Event("sbirlib:backward", 1000, 9000),
        Event("sbirlib:encode", 2000, 6000),  # as gradient caching encodes again
        Event("sbirlib:gather", 3000, 3500),
        Event("aten::mm", 2500, 2600),
        Event("sbirlib:load", 10_000, 13_000),
    ]
    spans = attribute(events, LABELS, 2)
    assert spans["load"].host == pytest.approx(2.0)
    assert spans["backward"].host == pytest.approx(2.0)
    assert spans["encode"].host == pytest.approx(3.5 / 2)
    assert spans["gather"].host == pytest.approx(0.25)
    assert spans["update"] == Span()


def test_a_kernel_belongs_to_the_part_that_launched_it_in_whatever_thread() -> None:
    events = [
        Event("sbirlib:encode", 0, 100),
        Event("aten::conv2d", 10, 20, kernels=[kernel("conv", 3000)]),
        Event("sbirlib:backward", 200, 900),
        Event("aten::conv_backward", 250, 260, thread=7, kernels=[kernel("dgrad", 4000), kernel("wgrad", 5000)]),
        Event("sbirlib:losses", 910, 990, kernels=[kernel("sbirlib:losses", 99_000)]),  # the label on the GPU's own line
        Event("aten::mm", 950, 960, kernels=[kernel("mm", 500), kernel("sbirlib:losses", 99_000)]),
        Event("conv", 5000, 8000, device_type=DeviceType.CUDA),
        Event("aten::mm", 2000, 2010, kernels=[kernel("mm", 700)]),  # outside every part
    ]
    spans = attribute(events, LABELS, 1)
    assert {name: span.gpu for name, span in spans.items() if span.gpu} == {"encode": 3.0, "backward": 9.0, "losses": 0.5}


def test_shares_are_of_kernels_on_a_gpu_but_for_the_wait_for_images() -> None:
    times = {"load": Span(10, 1), "encode": Span(5, 30), "backward": Span(5, 40)}
    on_gpu = Profile(parts=times, step=100, images=8, images_per_second=80, peak_memory=0, device="cuda:0", losses={"miner": Span(1, 2)})
    assert [on_gpu.share(part) for part in ("load", "encode", "backward", "update")] == pytest.approx([0.1, 0.3, 0.4, 0])
    assert on_gpu.idle == pytest.approx(0.29)
    assert on_gpu.loss_shares() == {"miner": 0.02}
    on_cpu = Profile(parts=times, step=100, images=8, images_per_second=80, peak_memory=0)
    assert on_cpu.share("encode") == pytest.approx(0.05)
    assert on_cpu.idle == 0


def test_a_profile_of_real_steps_adds_up(parts: Dataset) -> None:
    alone = phase_alone("mathm", SMALL, steps=steps_of(3))
    handles = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in alone.pipeline.model.modules())
    result = profile(alone.pipeline, parts, steps=3, device="cpu", progress=False)
    assert set(result.parts) == set(PARTS)
    assert 0.7 * result.step < sum(span.host for span in result.parts.values()) <= 1.02 * result.step
    assert min(result.share(part) for part in ("load", "encode", "losses", "backward", "update")) > 0
    assert set(result.losses) == {"loss cross_entropy", "loss balanced_triplet", "miner"}
    of_losses = sum(span.host for span in result.losses.values())
    assert 0 < of_losses <= result.parts["losses"].host
    assert result.images == 8
    assert result.images_per_second > 0
    assert result.peak_memory > 2**20
    assert any("conv" in name for name, _, _ in result.operators)
    assert (result.device, result.precision, result.workers, result.cached) == ("cpu", "float32", 0, True)
    assert result.threads == torch.get_num_threads()
    assert sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in alone.pipeline.model.modules()) == handles


def test_a_phase_that_is_too_short_is_refused(parts: Dataset) -> None:
    with pytest.raises(InputError, match=f"trains {steps_of(20)}, and the first phase with steps has 10: give it more"):
        profile(phase_alone("mathm", SMALL, steps=10).pipeline, parts)
    with pytest.raises(InputError, match="steps"):
        profile(phase_alone("mathm", SMALL, steps=10).pipeline, parts, steps=0)


def test_a_phase_alone_is_thawed_and_of_constant_rate() -> None:
    phases = [
        {"steps": 9, "schedule": {"name": "constant", "warmup": 4}, "parameters": [{"of": "encoder.backbone", "frozen": 5}]},
        {"steps": 3, "parameters": [{"of": "encoder.backbone", "frozen": True}]},
    ]
    first = phase_alone("mathm", {**SMALL, "phases": phases}, steps=30)
    assert (first.number, first.thawed, first.phase.steps) == (0, ("encoder.backbone",), 30)
    assert first.phase.parameters[0].frozen == 0
    assert first.phase.schedule.options["warmup"] == 0
    second = phase_alone("mathm", {**SMALL, "phases": phases}, steps=30, phase=1)
    assert [phase.steps for phase in second.pipeline.recipe.phases] == [0, 30]
    assert second.thawed == ()
    with pytest.raises(InputError, match=r"no phases\.2: it has phases 0 to 1"):
        phase_alone("mathm", {**SMALL, "phases": phases}, steps=30, phase=2)
