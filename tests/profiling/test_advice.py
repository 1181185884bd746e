"""Rules of advice, each on a profile that it is for and on one that it is not."""

from __future__ import annotations

from typing import Any

import pytest

from sbirlib.profiling.advice import advice
from sbirlib.profiling.profile import PARTS, Profile, Span

GPU: dict[str, Any] = {"device": "cuda:0", "memory": 80 * 2**30, "peak_memory": 60 * 2**30, "precision": "bfloat16", "images": 256}
CPU: dict[str, Any] = {"cores": 4, "threads": 4, "cached": True}
BASE: dict[str, Any] = {"step": 100.0, "images": 64, "images_per_second": 640.0, "peak_memory": 2**30}
BUSY = {"load": 2.0, "encode": 30.0, "gather": 0.0, "losses": 3.0, "backward": 60.0, "average": 0.0, "update": 5.0}


def profile_of(changes: dict[str, float], losses: dict[str, float] | None = None, **settings: Any) -> Profile:
    """A profile of these milliseconds of 100, on the host and on a GPU alike."""
    times = BUSY | changes
    others = {name: Span(ms, ms) for name, ms in (losses or {}).items()}
    return Profile(parts={part: Span(times[part], times[part]) for part in PARTS}, losses=others, **BASE | settings)


CASES = {
    "waiting, no workers": (
        profile_of({"load": 40}, cores=4, threads=4),
        "a step waits 40% of its time for images: --workers 3 prepares them",
    ),
    "waiting, from files": (profile_of({"load": 40}, cores=4, threads=4), "`sbirlib pack` makes them quicker to read"),
    "waiting, all workers": (profile_of({"load": 40}, cores=4, workers=3), "more cores would prepare them faster"),
    "losses": (
        profile_of({"losses": 45}, {"loss triplet": 30.0, "loss cross_entropy": 2.0, "miner": 12.0}, **CPU),
        "losses take 45% of a step (triplet 30%, miner 12%): those over pairs",
    ),
    "an idle GPU": (profile_of({"encode": 10, "backward": 20}, **GPU), "the GPU does nothing for 58% of a step"),
    "small batches": (
        profile_of({}, **GPU | {"images": 8, "peak_memory": 2**31}),
        "8 images are small for a GPU, with 2.0 of 80 GiB in use",
    ),
    "small batches, full memory": (profile_of({}, **GPU | {"images": 8}), "batches of 8 images are small for a GPU: raise"),
    "float32 on a GPU": (profile_of({}, **GPU | {"precision": "float32"}), "--set precision=bfloat16"),
    "full memory": (profile_of({}, **GPU | {"peak_memory": 76 * 2**30}), "95% of the GPU's memory is in use: --set phases.0.chunk=N"),
    "updates": (
        profile_of({"update": 20}, **CPU),
        "the optimizer's update takes 20% of a step: larger batches, or --set phases.0.accumulate=2",
    ),
    "processes": (profile_of({"average": 20, "gather": 5}, **CPU), "processes exchange features and gradients for 25% of a step"),
    "threads": (profile_of({}, cores=8, threads=2), "2 of 8 cores compute: OMP_NUM_THREADS=8 uses all"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_rule_speaks_where_it_applies(case: str) -> None:
    profile, sentence = CASES[case]
    assert any(sentence in line for line in advice(profile)), advice(profile)


@pytest.mark.parametrize("settings", [CPU, GPU])
def test_of_a_sound_profile_nothing_stands_out(settings: dict[str, Any]) -> None:
    assert advice(profile_of({}, **settings)) == [
        "nothing stands out: the encoder's forward and backward passes take 90% of a step; a smaller backbone or transform.size, or frozen "
        "layers, would shorten it"
    ]


def test_rules_of_a_gpu_are_silent_on_the_cpu_and_pack_where_memory_holds_the_images() -> None:
    assert "nothing stands out" in advice(profile_of({}, **CPU | {"images": 4, "precision": "float32"}))[0]
    assert "pack" not in advice(profile_of({"load": 40}, **CPU))[0]


def test_a_gpu_that_waits_for_images_is_not_said_to_be_idle_for_its_host() -> None:
    lines = advice(profile_of({"load": 60, "encode": 10, "backward": 25}, **GPU, cores=16))
    assert len(lines) == 1
    assert "--workers 8" in lines[0]
