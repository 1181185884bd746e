"""Conformance kit: the checks that every component must pass, ours and anyone's. CPU, small sizes, no pytest.

In a script, and in a test (`sbirlib plugins new` writes it):

    check_part("loss", "triplet")
    print("\n".join(report("loss", "triplet")))

    @pytest.mark.parametrize(("name", "check"), all_checks("my-distribution"))
    def test_conforms(name, check):
        check()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sbirlib import registry
from sbirlib.errors import InputError, nearest
from sbirlib.testing import component, encoder, evaluator, independence, loss, miner, recipe, sampler
from sbirlib.testing.behaviour import MODULES
from sbirlib.testing.report import lines
from sbirlib.testing.subject import CheckFailed, Oracle, Subject

__all__ = ["CheckFailed", "all_checks", "check_part", "report"]

Check = Callable[[], None]
CHECKS = {
    "encoder": (*component.CHECKS, *independence.MODULE_CHECKS, *encoder.CHECKS, *independence.LAST_CHECKS),
    "miner": (*component.CHECKS, *independence.MODULE_CHECKS, *miner.CHECKS, *independence.LAST_CHECKS),
    "loss": (*component.CHECKS, *independence.MODULE_CHECKS, *loss.CHECKS, *independence.LAST_CHECKS),
    "evaluator": (*component.CHECKS, *independence.CHECKS, *evaluator.CHECKS, *independence.LAST_CHECKS),
    "sampler": (*component.CHECKS, *independence.CHECKS, *sampler.CHECKS, *independence.LAST_CHECKS),
    "transform": (*component.CHECKS, *independence.CHECKS, *independence.LAST_CHECKS),
    "schedule": (*component.CHECKS, *independence.CHECKS, *independence.LAST_CHECKS),
    "dataset": component.CHECKS[1:],  # it reads files, so there is none by default
    "recipe": recipe.CHECKS,
}


def check_part(
    kind: str,
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    oracle: Oracle | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Run every check on one component, by kind ("loss", or "losses") and name; raises CheckFailed at the first that fails.

    `options` are laid over the component's defaults. `oracle` is a slow, literal version of a miner's or an evaluator's call, which it must
    equal. `expected_failures` maps ids, `loss/mine/gradient_is_right`, to the reason; one that passes after all fails.
    """
    subject = Subject(_kind(kind), name, dict(options or {}), oracle)
    for _, check in _expecting(_checks(subject), expected_failures or {}):
        check()


def all_checks(
    name: str,
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    oracles: Mapping[str, Oracle] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[tuple[str, Check]]:
    """`(id, check)` for every component that a distribution offers, or for the components called `name`; a check raises CheckFailed.

    `options` and `oracles` are by component, "loss/mine"; ids are "loss/mine/gradient_is_right". An entry that adapts another library by name,
    such as `pml`, offers nothing itself: check an adapted loss, `all_checks("pml:TripletMarginLoss")`.
    """
    entries = registry.scan().entries
    plain, colon, _ = name.partition(":")
    offered = [e for e in entries if e.distribution == name.lower().replace("_", "-")] or [e for e in entries if e.name == plain]
    if colon:
        offered = [e for e in offered if component.adapted(e.kind, name)]
    if not offered:
        raise InputError(
            f"nothing installed is called {name!r}{nearest(name, {e.distribution for e in entries} | {e.name for e in entries})}"
        )
    subjects = [
        Subject(e.kind, name if colon else f"{e.name}@{e.distribution}")
        for e in offered
        if e.kind == "recipe" or colon or not registry.adapts(e.kind, registry.import_entry(e.kind, f"{e.name}@{e.distribution}"))
    ]
    names = {subject.id for subject in subjects}
    for table in (options or {}, oracles or {}):
        for key in table:
            if key not in names:
                raise InputError(f"there is no component {key!r} here{nearest(key, names)}")
    configured = [Subject(s.kind, s.name, dict((options or {}).get(s.id, {})), (oracles or {}).get(s.id), options or {}) for s in subjects]
    return _expecting([check for subject in configured for check in _checks(subject)], expected_failures or {})


def report(kind: str, name: str, *, options: Mapping[str, Any] | None = None) -> list[str]:
    """Lines on an encoder, a miner or a loss under torch.compile and torch.export, neither of which a component has to support.

    `options` are laid over the component's defaults. Takes some seconds. Raises InputError for another kind.
    """
    if _kind(kind) not in MODULES:
        raise InputError(f"torch.compile and torch.export take networks, of kind {', '.join(MODULES)}: there is no report of kind {kind!r}")
    return lines(Subject(_kind(kind), name, dict(options or {})))


def _checks(subject: Subject) -> list[tuple[str, Check]]:
    """The checks of its kind, each with its id; one that needs an oracle is left out where none is given."""
    functions = [f for f in CHECKS.get(subject.kind, component.CHECKS) if subject.oracle is not None or f.__name__ != "equals_its_oracle"]
    return [(f"{subject.id}/{f.__name__}", partial(f, subject)) for f in functions]


def _expecting(checks: list[tuple[str, Check]], failures: Mapping[str, str]) -> list[tuple[str, Check]]:
    """The same checks; those of which a failure is expected fail where they pass."""
    names = [name for name, _ in checks]
    for name in failures:
        if name not in names:
            raise InputError(f"there is no check {name!r} whose failure could be expected{nearest(name, names)}")
    return [(name, _inverted(name, check, failures[name]) if name in failures else check) for name, check in checks]


def _inverted(name: str, check: Check, reason: str) -> Check:
    def inverted() -> None:
        try:
            check()
        except CheckFailed:
            return
        raise CheckFailed(f"{name} passes, and was expected to fail ({reason}): take it out of expected_failures")

    return inverted


def _kind(kind: str) -> str:
    singular = {group.rpartition(".")[2]: kind for kind, group in registry.GROUPS.items()}
    singular_kind = singular.get(kind, kind)
    if singular_kind not in registry.GROUPS:
        raise InputError(f"unknown kind of component {kind!r}{nearest(kind, registry.GROUPS)}")
    return singular_kind
