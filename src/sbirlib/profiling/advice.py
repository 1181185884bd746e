"""Advice from a profile: one rule for each cause of slow training steps, with the setting that changes it."""

from __future__ import annotations

from collections.abc import Callable

from sbirlib.profiling.profile import LOSS, Profile

WAITING, LOSSES, UPDATING, AVERAGING = 0.2, 0.3, 0.15, 0.2  # shares of a step above which a part is named
IDLE = 0.3  # share of a step without a kernel
SMALL = 32  # images of a batch below which a GPU is rarely full
FULL, EMPTY = 0.9, 0.5  # shares of the GPU's memory
Rule = Callable[[Profile], str | None]


def advice(profile: Profile) -> list[str]:
    """A sentence for each rule that applies to the profile; one that nothing stands out where none does."""
    sentences = [sentence for rule in RULES if (sentence := rule(profile))]
    return sentences or [_nothing(profile)]


def waiting(profile: Profile) -> str | None:
    """Advice on a step that waits for its images."""
    share = profile.share("load")
    if share <= WAITING:
        return None
    more = max(1, min(profile.cores - 1, 8))
    workers = f"--workers {more} prepares them beside the training" if profile.workers < more else "more cores would prepare them faster"
    pack = "" if profile.cached else "; `sbirlib pack` makes them quicker to read"
    return f"a step waits {share:.0%} of its time for images: {workers}{pack}"


def losses(profile: Profile) -> str | None:
    """Advice on losses that take much of a step, with those that take most."""
    share = profile.share("losses")
    if share <= LOSSES:
        return None
    largest = [f"{name.removeprefix(LOSS)} {part:.0%}" for name, part in profile.loss_shares().items() if part > share / 5]
    return (
        f"losses take {share:.0%} of a step"
        + (f" ({', '.join(largest)})" if largest else "")
        + ": those over pairs or triplets grow with the "
        "square of the batch or faster: a smaller batch, or a miner that chooses fewer triplets"
    )


def idle(profile: Profile) -> str | None:
    """Advice on a GPU that does nothing for much of a step, but for the wait for images."""
    share = profile.idle - profile.share("load")
    if share <= IDLE:
        return None
    return (
        f"the GPU does nothing for {share:.0%} of a step, in which the host launches its work: larger batches (the sampler's sizes), or "
        "--set compile=true"
    )


def small_batches(profile: Profile) -> str | None:
    """Advice on batches that leave a GPU half empty."""
    if not profile.on_gpu or profile.images >= SMALL:
        return None
    room = profile.memory and profile.peak_memory < EMPTY * profile.memory
    memory = f", with {profile.peak_memory / 2**30:.1f} of {profile.memory / 2**30:.0f} GiB in use" if room else ""
    return f"batches of {profile.images} images are small for a GPU{memory}: raise the sampler's sizes"


def precision(profile: Profile) -> str | None:
    """Advice on float32 on a GPU."""
    if not profile.on_gpu or profile.precision != "float32":
        return None
    return "the encoder computes in float32: --set precision=bfloat16 is up to twice as fast on a GPU, in less memory"


def memory(profile: Profile) -> str | None:
    """Advice on a GPU whose memory is nearly full."""
    if not profile.memory or profile.peak_memory <= FULL * profile.memory:
        return None
    share = profile.peak_memory / profile.memory
    return (
        f"{share:.0%} of the GPU's memory is in use: --set phases.0.chunk=N encodes N images at once, and losses still see the whole batch"
    )


def updating(profile: Profile) -> str | None:
    """Advice on an optimizer that takes much of a step."""
    share = profile.share("update")
    if share <= UPDATING:
        return None
    return f"the optimizer's update takes {share:.0%} of a step: larger batches, or --set phases.0.accumulate=2, make it rarer"


def averaging(profile: Profile) -> str | None:
    """Advice on processes that wait for each other."""
    share = profile.share("average") + profile.share("gather")
    if share <= AVERAGING:
        return None
    return f"processes exchange features and gradients for {share:.0%} of a step: larger batches make that rarer"


def threads(profile: Profile) -> str | None:
    """Advice on cores that nothing uses."""
    if profile.on_gpu or profile.threads + profile.workers >= profile.cores:
        return None
    return f"{profile.threads} of {profile.cores} cores compute: OMP_NUM_THREADS={profile.cores} uses all"


def _nothing(profile: Profile) -> str:
    encoder = profile.share("encode") + profile.share("backward")
    return (
        f"nothing stands out: the encoder's forward and backward passes take {encoder:.0%} of a step; a smaller backbone or "
        "transform.size, or frozen layers, would shorten it"
    )


RULES: tuple[Rule, ...] = (waiting, losses, idle, small_batches, precision, memory, updating, averaging, threads)
