"""A component by kind, name and options, checked before it is made; or an object that the caller hands over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_args

from sbirlib import registry
from sbirlib.errors import InputError
from sbirlib.options import REQUIRED, Option, hand_over_again, missing_object, options_of, read_options, refuse, shown, structure

SUPPLIED = ("dim", "vector_dim", "categories", "instances")  # options of a loss that training fills in
CONTRACT = "sbirlib.interfaces"
CONTRACTS = ("encoder", "miner", "loss", "evaluator", "transform", "sampler", "schedule")  # kinds with an interface


@dataclass(frozen=True)
class Spec:
    """A component to be made: `options` hold every default, and a Spec wherever the option is a component itself.

    `instance` is the component, where the caller handed over an object; `name` is then the object's class.
    """

    kind: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    instance: Any = None

    @classmethod
    def read(cls, kind: str, value: Any, path: str, faults: list[str], *, supplied: Sequence[str] = ()) -> Spec | None:
        """A Spec from a name, a table with a name and options, or an object; faults are appended with their paths."""
        if isinstance(value, Spec):
            value = value.instance if value.instance is not None else value.table()
        value = structure(value)
        if isinstance(value, str):
            value = {"name": str(value)}
        if isinstance(value, Mapping):
            if missing_object(value):
                faults.append(hand_over_again(value, path))
                return None
            return cls._from_table(kind, value, path, faults, supplied)
        if not _fulfils(kind, value):
            faults.append(
                f"{path} = {shown(value)}: expected {_article(kind)} by name, or a table with a name and options{_way(kind, value)}"
            )
            return None
        return cls(kind, type(value).__name__, instance=value)

    @classmethod
    def _from_table(cls, kind: str, table: Mapping[str, Any], path: str, faults: list[str], supplied: Sequence[str]) -> Spec | None:
        name = table.get("name")
        if not isinstance(name, str):
            faults.append(f"{path} = {shown(dict(table))}: expected a table with a name and the options of {_article(kind)}")
            return None
        try:
            constructor = registry.load(kind, str(name))
            declared = options_of(constructor)
        except InputError as error:
            faults.append(f"{path}: {error}")
            return None
        readers = {option.name: partial(cls._inner, inner) for option in declared.values() if (inner := component_kind(option))}
        values = {key: value for key, value in table.items() if key != "name"}
        options = read_options(constructor, values, path, faults, owner=f"{kind} {str(name)!r}", readers=readers, supplied=supplied)
        defaults = {key: option.default for key, option in declared.items() if option.default is not REQUIRED}
        return cls(kind, str(name), {name: _with_lists(value) for name, value in {**defaults, **options}.items()})

    @classmethod
    def _inner(cls, kind: str, value: Any, path: str, faults: list[str]) -> Spec | None:
        return None if structure(value) is None else cls.read(kind, value, path, faults)

    @classmethod
    def of(cls, kind: str, value: Any, path: str = "", *, supplied: Sequence[str] = ()) -> Spec:
        """The same, with all faults in one InputError."""
        faults: list[str] = []
        name = value if isinstance(value, str) else value.get("name") if isinstance(value, Mapping) else kind
        spec = cls.read(kind, value, path or str(name), faults, supplied=supplied)
        refuse(faults)
        assert spec is not None
        return spec

    def table(self) -> dict[str, Any]:
        """Plain values, as JSON stores them; an object leaves its class's name alone."""
        return {"object": self.name} if self.instance is not None else {"name": self.name, **plain_table(self.options)}

    def constructor(self) -> Callable[..., Any]:
        """The component's class or function, imported when called for."""
        return registry.load(self.kind, self.name)

    def make(self, *arguments: Any, **supplied: Any) -> Any:
        """The component, those inside it made first; options without a default are taken from `supplied`, where they are not set."""
        if self.instance is not None:
            return self.instance
        constructor = self.constructor()
        required = {name for name, option in options_of(constructor).items() if option.default is REQUIRED}
        options = {name: value.make() if isinstance(value, Spec) else value for name, value in self.options.items()}
        try:
            component = constructor(*arguments, **{**{k: v for k, v in supplied.items() if k in required}, **options})
        except (RuntimeError, MemoryError, OverflowError, TypeError) as error:  # such as sizes that no memory holds
            raise InputError(f"{self.kind} {self.name!r} cannot be made: {type(error).__name__}: {error}") from error
        if self.kind in CONTRACTS and not _fulfils(self.kind, component):
            raise InputError(
                f"{self.kind} {self.name!r} makes a {type(component).__name__}, which is no {self.kind.capitalize()}: see {CONTRACT}"
            )
        return component


def _with_lists(value: Any) -> Any:
    """Tuples as the lists that JSON gives back."""
    return [_with_lists(item) for item in value] if isinstance(value, list | tuple) else value


def plain_table(value: Any) -> Any:
    """Options as JSON stores them: a Spec as its table, an object as the name of its class."""
    if isinstance(value, Spec):
        return value.table()
    if isinstance(value, Mapping):
        return {key: plain_table(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_table(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else {"object": type(value).__name__}


def component_kind(option: Option) -> str:
    """The kind of component that an option holds, by its annotation; empty if it holds none."""
    for annotation in (option.annotation, *get_args(option.annotation)):
        for base in getattr(annotation, "__mro__", ()):
            if base.__module__ == CONTRACT and base.__name__.lower() in registry.GROUPS:
                return str(base.__name__.lower())
    return ""


def part(kind: str, name: str | Mapping[str, Any] | object, **options: Any) -> Any:
    """One component, from a name and options, a table with a `name`, or an object of that kind, which is returned as it is.

    Raises InputError with every fault of the options at once.

    >>> part("miner", "modality_hard", kinds=["cross"]).kinds
    ('cross',)
    """
    if isinstance(name, str):
        name = {"name": name}
    registry.check_kind(kind)
    if isinstance(name, Mapping):
        return Spec.of(kind, {**name, **options}).make()
    if options:
        raise InputError(f"options ({', '.join(options)}) go with the name of {_article(kind)}, not with an object, which has its own")
    return Spec.of(kind, name).make()


def _fulfils(kind: str, value: Any) -> bool:
    from sbirlib import interfaces  # torch: only where an object is handed over, or made

    return kind in CONTRACTS and not isinstance(value, type) and isinstance(value, getattr(interfaces, kind.capitalize()))


def _way(kind: str, value: Any) -> str:
    """The way to hand over an object, for a message."""
    if kind not in CONTRACTS:
        return ""
    if isinstance(value, type):
        return f", or an object: {value.__name__}()"
    if kind == "encoder" and hasattr(value, "forward"):
        return "; a network without the interface Encoder goes in as encoder={'name': 'backbone', 'backbone': ...}"
    return f", or an object of the interface {kind.capitalize()}"


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
