"""Options held to their annotations: types, ranges and choices of a constructor's keyword-only parameters, checked by pydantic.

A component declares each option once, in its constructor's signature, and explains it in one line under `Args:` in its docstring:

    def __init__(self, *, margin: Annotated[float, Ge(0)] = 0.2, kind: Literal["soft", "hard"] = "soft") -> None:
"""

from __future__ import annotations

import inspect
import math
import re
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MinLen
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from sbirlib.errors import InputError, nearest

REQUIRED = inspect.Parameter.empty
STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
WORDS = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
    **dict.fromkeys(("none", "null"), None),
}
NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "none",
    Any: "any value",
}

Reader = Callable[[Any, str, list[str]], Any]
Betas = Annotated[Sequence[Annotated[float, Interval(ge=0, lt=1)]], Len(2, 2)]  # of Adam


class Text(str):
    """A value as typed on the command line, to be read as the type of its option says."""

    def readings(self) -> Iterator[Any]:
        """The values that the text may stand for, most specific first; the text itself last."""
        if self.lower() in WORDS:
            yield WORDS[self.lower()]
        for kind in (int, float):
            with suppress(ValueError):
                yield kind(self)
        with suppress(ValueError, RecursionError):  # TOML's own error is a ValueError
            table = tomllib.loads(f"value = {self}")
            if table.keys() == {"value"} and (isinstance(table["value"], list | dict | str) or "#" not in self):
                yield table["value"]
        yield str(self)


@dataclass(frozen=True)
class Option:
    """One option of a component: its name, annotation, default (REQUIRED where it has none) and meaning in one line."""

    name: str
    annotation: Any
    default: Any
    meaning: str

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        try:
            return TypeAdapter(self.annotation, config=STRICT)
        except PydanticUserError:  # a type that brings its own configuration
            return TypeAdapter(self.annotation)

    @property
    def expected(self) -> str:
        return expected(self.annotation)

    def read(self, value: Any) -> Any:
        """The value as it is, if the annotation allows it; a Text is read first. Raises ValueError otherwise."""
        for reading in value.readings() if isinstance(value, Text) else (number(plain(value)),):
            try:
                self.adapter.validate_python(reading)
            except ValidationError:
                continue
            if not all(math.isfinite(value) for value in _floats(reading)):
                continue
            return reading
        choices = [choice for choice in literals(self.annotation) if isinstance(choice, str)]
        hint = nearest(value, choices).partition(" (")[0] if isinstance(value, str) and choices and value not in choices else ""
        raise ValueError(f"{shown(value)}: expected {self.expected}" + (hint if hint.startswith("; did") else ""))

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the option."""
        schema = self.adapter.json_schema(schema_generator=_Schemas)
        described = {"description": self.meaning} if self.meaning else {}
        default = {} if self.default is REQUIRED else {"default": self.default}
        return {**schema, **described, **default}


class _Schemas(GenerateJsonSchema):
    def is_instance_schema(self, schema: Any) -> dict[str, Any]:
        """No JSON value is an object of a class."""
        return {"not": {}}


@lru_cache(maxsize=512)
def options_of(constructor: Callable[..., Any]) -> dict[str, Option]:
    """The options of a component's constructor: its keyword-only parameters. Raises InputError for annotations that name nothing."""
    call = constructor.__init__ if inspect.isclass(constructor) else constructor
    try:
        fields = is_dataclass(constructor)  # inherited ones, too, each resolved in the module of its class
        hints = get_type_hints(constructor if fields else call, include_extras=True)
    except NameError as error:
        raise InputError(f"the annotations of {constructor.__qualname__} cannot be resolved: {error}") from error
    meanings = meanings_of(constructor)
    return {
        p.name: Option(p.name, hints.get(p.name, p.annotation if p.annotation is not p.empty else guess(p.default)), p.default,
                       meanings.get(p.name, ""))
        for p in inspect.signature(constructor).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    }  # fmt: skip


def read_options(
    constructor: Callable[..., Any],
    table: Mapping[str, Any],
    path: str,
    faults: list[str],
    *,
    owner: str = "",
    readers: Mapping[str, Reader] | None = None,
    supplied: Sequence[str] = (),
) -> dict[str, Any]:
    """The options in `table`, held to the constructor's annotations; every fault is appended to `faults` with its path.

    `readers` read those options that are more than a value. Options without a default must be there, unless they are `supplied` later.
    """
    declared, values = options_of(constructor), {}
    for name, value in table.items():
        where = f"{path}.{name}" if path else str(name)
        if name not in declared:
            faults.append(f"{where}: {owner or constructor.__name__} has no option {name!r}{nearest(str(name), declared)}")
        elif missing_object(value):
            faults.append(hand_over_again(value, where))
        elif readers and name in readers:
            values[name] = readers[name](value, where, faults)
        else:
            try:
                values[name] = declared[name].read(value)
            except ValueError as error:
                faults.append(f"{where} = {error}")
    for name, option in declared.items():
        if option.default is REQUIRED and name not in table and name not in supplied:
            where = f"{path}.{name}" if path else name
            faults.append(f"{where}: {owner or constructor.__name__} needs the option {name!r}, expected {option.expected}")
    return values


def hold(constructor: Callable[..., Any], values: Mapping[str, Any]) -> None:
    """Raise InputError for any of the values that the constructor's annotations do not allow; unknown names are left to Python."""
    declared, faults = options_of(constructor), list[str]()
    for name in values.keys() & declared.keys():
        try:
            declared[name].read(values[name])
        except ValueError as error:
            faults.append(f"{constructor.__name__}: {name} = {error}")
    refuse(sorted(faults))


def refuse(faults: Sequence[str]) -> None:
    """Raise one InputError with all faults, if there are any."""
    if len(faults) == 1:
        raise InputError(faults[0])
    if faults:
        raise InputError(f"{len(faults)} faults:\n" + "\n".join(f"  {fault}" for fault in faults))


def missing_object(value: Any) -> str:
    """The class of the object whose place in a stored recipe this value holds; empty for any other value."""
    return str(value["object"]) if isinstance(value, Mapping) and set(value) == {"object"} else ""


def hand_over_again(value: Mapping[str, Any], path: str) -> str:
    """The fault of a place whose object is missing."""
    return f"{path} was handed over as an object of {missing_object(value)}: hand it over again, load(FILE, **{{{path!r}: ...}})"


def structure(value: Any) -> Any:
    """A Text that stands for a table, a list or none, as that; other values as they are, for texts inside belong to options."""
    reading = plain(value) if isinstance(value, Text) else value
    return reading if reading is None or isinstance(reading, Mapping | list) else value


def plain(value: Any) -> Any:
    """The value with every Text inside it, below an option's own level, read as its most specific reading."""
    if isinstance(value, Text):
        return next(value.readings())
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else value
    return value


def number(value: Any) -> Any:
    """A scalar of numpy or torch as a number of Python; any other value as it is."""
    scalar = type(value).__module__.partition(".")[0] in ("numpy", "torch") and getattr(value, "ndim", None) == 0
    return value.item() if scalar else value


def _floats(value: Any) -> Iterator[float]:
    """All floats in a value, tables and lists of plain values inside it included."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _floats(item)


def shown(value: Any) -> str:
    """The value for a message, at most 80 characters."""
    try:
        text = repr(str(value) if isinstance(value, Text) else value)
    except Exception:  # a repr of the user's own, or a number of too many digits
        text = f"a value of {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def guess(default: Any) -> Any:
    """The annotation of an option that has none, from its default: a number, a text, true or false; anything else may be any value."""
    if isinstance(default, bool):
        return bool
    if isinstance(default, int | float):
        return float
    return str if isinstance(default, str) else Any


def literals(annotation: Any) -> tuple[Any, ...]:
    """All choices of the Literals in an annotation."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    inner = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return tuple(choice for item in inner for choice in literals(item))


def expected(annotation: Any) -> str:
    """An annotation in words.

    >>> expected(Annotated[int, Ge(1)] | None)
    'a whole number of at least 1, or none'
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return expected(arguments[0]) + "".join(_constraint(c) for c in arguments[1:])
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (Union, types.UnionType):
        return ", or ".join(expected(argument) for argument in arguments)
    if annotation in NAMES:
        return NAMES[annotation]
    if origin is not None and issubclass(origin, Mapping):
        keys = literals(arguments[0])
        return f"a table of {' and '.join(map(repr, keys))}, each {expected(arguments[1])}" if keys else "a table"
    if origin is not None and issubclass(origin, Sequence):
        items = expected(arguments[0]) if origin is not tuple or arguments[-1] is Ellipsis else ", ".join(map(expected, arguments))
        return f"a list, each item {items}" if origin is not tuple or arguments[-1] is Ellipsis else f"a list of {items}"
    return f"an object of {getattr(annotation, '__name__', annotation)}"


def _constraint(constraint: Any) -> str:
    bounds = ((Ge, "ge", " of at least "), (Gt, "gt", " above "), (Le, "le", " of at most "), (Lt, "lt", " below "))
    if isinstance(constraint, Len) and constraint.min_length == constraint.max_length:
        return f", {constraint.min_length} in all"
    if isinstance(constraint, MinLen):
        return f", at least {constraint.min_length} in all"
    if not isinstance(constraint, Interval | Ge | Gt | Le | Lt):
        return ""
    words = [f"{word}{getattr(constraint, name)}" for _, name, word in bounds if getattr(constraint, name, None) is not None]
    return " and".join(words)


def meanings_of(constructor: Callable[..., Any]) -> dict[str, str]:
    """One line for each option, from the section `Args:` of the docstrings of the constructor and its bases."""
    docs = [base.__doc__ for base in reversed(constructor.__mro__)] if inspect.isclass(constructor) else [constructor.__doc__]
    meanings: dict[str, str] = {}
    for doc in filter(None, docs):
        section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", f"{inspect.cleandoc(doc)}\n", re.MULTILINE)
        for name, text in re.findall(r"^ {4}(\w+): (.+(?:\n {8,}.+)*)", section[1] if section else "", re.MULTILINE):
            meanings[name] = " ".join(text.split())
    return meanings
