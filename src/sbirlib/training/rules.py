"""Parameter rules of a phase: learning rates, freezing and modes, by the names of parameters."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from sbirlib.encoders.backbone import Backbone
from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import ModuleComponent
from sbirlib.phase import Phase, Rule
from sbirlib.training.model import Model
from sbirlib.vision import timm

OPTIONS = ("lr", "weight_decay", "betas")  # of an optimizer's parameter group


def matches(name: str, of: str) -> bool:
    """Whether a parameter or module is the one named, lies under it, or fits the wildcard.

    >>> matches("encoder.backbone.conv1.weight", "encoder.backbone"), matches("encoder.embedding.bias", "*.bias")
    (True, True)
    """
    return name == of or name.startswith(f"{of}.") or fnmatch.fnmatchcase(name, of)


class Rules:
    """A phase's parameter rules, held against a model. A rule that matches nothing is an error with the nearest name."""

    def __init__(self, model: Model, phase: Phase) -> None:
        self.model, self.phase = model, phase
        names = [n for n, _ in model.named_parameters()] + [n for n, _ in model.named_modules() if n]
        for rule in phase.parameters:
            if not any(matches(name, rule.of) for name in names):
                raise InputError(f"no parameter is named {rule.of!r}{nearest(rule.of, names)}")
        trained = f"encoder.{phase.encoder}" if phase.encoder else "encoder"
        if trained not in names:
            raise InputError(
                f"the encoder has no module {phase.encoder!r}{nearest(str(phase.encoder), [n for n, _ in model.encoder.named_modules()])}"
            )
        self.roots = (trained, "miner", *(f"losses.{name}" for name in phase.weights))
        self.named = list(model.components())
        self.norms = {path for name, module in model.named_modules() if is_norm(module) for path in names if matches(path, name)}
        for rule in phase.parameters:
            if rule.only and not any(matches(name, rule.of) for name in self.norms):
                raise InputError(f"{rule.of!r} has no normalisation layer, of which the rule is (only = 'norms'): name another module")
        decays = any(rule.decay is not None for rule in phase.parameters)
        if decays and "lr" not in phase.optimizer.options:
            raise InputError("a rule has decay, which needs the optimizer's lr: name the optimizer, or leave decay out")
        self.depths = depths_of(model) if decays else {}
        self.opponents = tuple(f"losses.{name}.discriminator" for name in model.discriminators())

    def settings(self, name: str) -> Rule:
        """All rules for one name, merged: later ones win."""
        merged: dict[str, Any] = {}
        for rule in self.phase.parameters:
            if matches(name, rule.of) and (rule.only is None or name in self.norms):
                merged |= {k: v for k, v in vars(rule).items() if v is not None}
        if "decay" in merged and name in self.depths:
            merged["lr"] = merged.get("lr", self.phase.optimizer.options["lr"]) * merged["decay"] ** self.depths[name]
        return Rule(**{"of": name, **merged})

    def frozen(self, name: str, step: int) -> bool:
        """Whether a parameter or module does not train at this step; those outside the phase never do."""
        if not any(matches(name, root) for root in self.roots):
            return True
        until = self.settings(name).frozen
        return until is True or (until is not False and until is not None and step < until)

    def opposes(self, name: str) -> bool:
        return any(matches(name, opponent) for opponent in self.opponents)

    @property
    def turning_points(self) -> set[int]:
        """The steps at which something thaws."""
        return {0, *(int(r.frozen) for r in self.phase.parameters if r.frozen is not None and not isinstance(r.frozen, bool))}

    def apply(self, step: int) -> None:
        """Set gradients and modes as they are at this step: frozen modules are in eval mode and without gradient."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not self.frozen(name, step))
        for name, module in self.model.named_modules():
            norm = isinstance(module, _NormBase) and self.settings(name).eval
            module.training = not norm and (not name or not self.frozen(name, step))
        self.turn(step, opponents=False)

    def turn(self, step: int, *, opponents: bool) -> None:
        """Thaw the discriminators for their own turn, or freeze them for the encoder's."""
        for name, loss in self.model.discriminators().items():
            trains = opponents and not self.frozen(f"losses.{name}.discriminator", step)
            loss.discriminator.train(trains).requires_grad_(trains)

    @property
    def live_norms(self) -> set[nn.Module]:
        """Batch norms that take the statistics of batches at some step of the phase."""
        norms = {name: module for name, module in self.model.named_modules() if isinstance(module, _NormBase)}
        return {module for name, module in norms.items() if not self.settings(name).eval and not self.frozen(name, self.phase.steps - 1)}

    def components(self, step: int) -> list[ModuleComponent]:
        """The components that train at this step, whose hooks are called."""
        return [component for name, component in self.named if not self.frozen(name, step)]

    def groups(self, *, opponents: bool = False) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer: one for each set of options, of everything that trains at any step of the phase."""
        grouped = self._grouped(opponents)
        options = (dict(zip(OPTIONS, key, strict=True)) for key in grouped)
        return [
            {"params": [parameter for _, parameter in members], **{k: v for k, v in own.items() if v is not None}}
            for own, members in zip(options, grouped.values(), strict=True)
        ]

    def group_names(self, *, opponents: bool = False) -> list[str]:
        """Names of the same groups for logs: the rules that set a group apart, or "rest"; the discriminators' groups begin with that word."""
        names = []
        for members in self._grouped(opponents).values():
            own = [rule.of for rule in self.phase.parameters if any(getattr(rule, o) is not None for o in (*OPTIONS, "decay"))
                   and matches(members[0][0], rule.of)]  # fmt: skip
            name = members[0][0]
            layer = f", {self.depths[name]} before the last" if self.settings(name).decay and name in self.depths else ""
            names.append(("discriminator " if opponents else "") + (", ".join(own) or "rest") + layer)
        return names

    def _grouped(self, opponents: bool) -> dict[tuple[Any, ...], list[tuple[str, nn.Parameter]]]:
        grouped: dict[tuple[Any, ...], list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in self.model.named_parameters():
            rule = self.settings(name)
            if self.opposes(name) == opponents and not self.frozen(name, self.phase.steps):
                grouped.setdefault(tuple(getattr(rule, option) for option in OPTIONS), []).append((name, parameter))
        return grouped


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalisation layer, of torch or by its name."""
    return isinstance(module, _NormBase | nn.LayerNorm | nn.GroupNorm) or "Norm" in type(module).__name__


def depths_of(model: Model) -> dict[str, int]:
    """Layers after each parameter's own, by its name, in the timm backbones of a model, as timm counts them (`group_matcher`)."""
    depths: dict[str, int] = {}
    for path, module in model.named_modules():
        network = module.backbone if isinstance(module, Backbone) else None
        if network is None or not hasattr(network, "group_matcher"):
            continue
        layers: dict[str, int] = timm.models.group_parameters(network, network.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]
        last = max(layers.values())
        depths |= {f"{path}.backbone.{name}": last - layer for name, layer in layers.items()}
    if not depths:
        raise InputError("a rule has decay, and no backbone names its layers as timm does: leave decay out")
    return depths


def scale_rates(optimizers: Sequence[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's rate to its own initial rate times the schedule's factor."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor
