"""Checks of a phase's cache, before its first image and with it."""

from __future__ import annotations

from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import Batch, Encoder, Loss
from sbirlib.phase import Phase
from sbirlib.training.cache.entry import Entry
from sbirlib.training.model import Model
from sbirlib.training.rules import Rules


def encoder_and_path(model: Model, phase: Phase) -> tuple[Encoder, str]:
    """The encoder that a phase runs, and the path in it of the module whose output is cached."""
    assert phase.cache is not None
    encoder: Encoder = model.encoder.get_submodule(phase.encoder or "")  # type: ignore[assignment]
    return encoder, phase.cache.module.removeprefix(f"encoder.{phase.encoder}." if phase.encoder else "encoder.")


def check_module(model: Model, phase: Phase, *, compiles: bool, shards: bool) -> None:
    """Raise InputError for a cache of a module that is not in the phase's encoder, of images that a loss of the phase reads, or beside compilation
    or sharding, which take the modules' calls too.
    """
    assert phase.cache is not None
    if compiles or shards:
        raise InputError(f"{'compile' if compiles else 'shard'} and cache exclude each other: leave one of them out")
    root = f"encoder.{phase.encoder}." if phase.encoder else "encoder."
    names = [name for name, _ in model.named_modules() if name.startswith(root)]
    if phase.cache.module not in names:
        raise InputError(f"cache.module: the phase runs no module {phase.cache.module!r}{nearest(phase.cache.module, names)}")
    losses = model.losses.items()
    readers = [name for name, loss in losses if phase.trains(name) and isinstance(loss, Loss) and "images" in loss.needs]
    if readers:
        raise InputError(f"loss {readers[0]!r} reads the images, of which a phase with a cache has features alone: leave one of them out")


def check_entry(model: Model, phase: Phase, rules: Rules, batch: Batch) -> None:
    """Raise InputError where a cache cannot stand for a few images [B, 3, H, W]: what makes its features trains, or passes something by it."""
    encoder, path = encoder_and_path(model, phase)
    entry = Entry(encoder, path, batch)
    names = {parameter: name for name, parameter in model.named_parameters()}
    trained = [parameter for parameter, name in names.items() if not rules.frozen(name, phase.steps)]
    if live := sorted(names[parameter] for parameter in entry.cut_off(batch, trained)):
        modules = {module: name for name, module in model.named_modules()}
        needed = ", ".join(
            f'{{ of = "{modules[module]}", frozen = true }}' for module in entry.below if any(True for _ in module.parameters())
        )
        raise InputError(
            f"cache.module: {len(live)} parameters on the way to {phase.cache and phase.cache.module} train, such as {live[0]}: freeze what is "
            f"cached, parameters = [{needed}], or name an earlier module"
        )
    entry.check(batch)
