"""Subject of a check: a component by kind and name, made small; and the exception of a check that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from sbirlib import registry
from sbirlib.options import REQUIRED, options_of
from sbirlib.spec import SUPPLIED, Spec, component_kind

FILL = {"dim": 16, "vector_dim": 16, "categories": 4, "instances": 8}
BACKBONE = "test_resnet"  # timm's own for tests: a third of a million weights
SMALL: dict[str, Any] = {
    "pretrained": False,
    "backbone": BACKBONE,
    "dim": 16,
    "encoder": {"name": "backbone", "backbone": BACKBONE, "pretrained": False, "dim": 16},
}
PARTS: dict[str, Any] = {
    "encoder": SMALL["encoder"],
    "transform": {"name": "sbir", "size": 32},
}  # for options without a default, by their kind

Oracle = Callable[..., Any]


class CheckFailed(AssertionError):
    """A component breaks the contract; the message states the observation and the expectation."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise CheckFailed(message)


@dataclass(frozen=True)
class Subject:
    """A component under test, the options laid over its defaults, and those of the components beside it, by id."""

    kind: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    oracle: Oracle | None = None
    beside: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.kind}/{self.name.partition('@')[0]}"

    @cached_property
    def constructor(self) -> Callable[..., Any]:
        return registry.load(self.kind, self.name)

    def make(self, *, seed: int = 0, small: bool = True, exact: Mapping[str, Any] | None = None, **changes: Any) -> Any:
        """The component with its defaults; an encoder made small, sizes of a loss filled in, and the author's options laid over.

        `exact` options reach the constructor as they are, tuples too, as from Python; others as from a recipe.
        """
        spec = self._small if small and not changes else self._spec(small, changes)
        with seeded(seed):
            return replace(spec, options={**spec.options, **(exact or {})}).make(**FILL)

    @cached_property
    def _small(self) -> Spec:
        return self._spec(True, {})  # read once, for the checks make hundreds

    def _spec(self, small: bool, changes: Mapping[str, Any]) -> Spec:
        options = options_of(self.constructor)
        less = {k: v for k, v in SMALL.items() if k in options} if small and self.kind == "encoder" else {}
        needed = {k: component_kind(option) for k, option in options.items() if option.default is REQUIRED}
        parts = {k: PARTS[kind] for k, kind in needed.items() if kind in PARTS}  # a component around another is nothing without it
        table = {"name": self.name, **parts, **less, **self.options, **changes}
        return Spec.of(self.kind, table, self.id, supplied=SUPPLIED if self.kind == "loss" else ())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws that can be repeated; the global generator is afterwards as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def runs(subject: Subject, case: str) -> Iterator[None]:
    """Fail with the error that a component raises in this case."""
    try:
        yield
    except Exception as error:
        raise CheckFailed(f"{subject.id}: with {case} it raises {type(error).__name__}: {error}") from error
