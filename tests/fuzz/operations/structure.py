"""Operations on JSON: a whole file, a line of it, the header of a safetensors file, or a text inside any of these."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.fuzz.operations import raw
from tests.fuzz.operations.raw import Operation

INNER = "@json"  # a step of a path: from a text into the JSON that it holds
NUMBERS = (
    "-1",
    "0",
    "1",
    "1.5",
    "255",
    "256",
    "100000",
    str(2**31),
    str(2**63),
    str(10**30),
    "1e308",
    "-1e308",
    "1e999",
    "NaN",
    "-Infinity",
)
TEXTS = (
    "",
    "x",
    "..",
    "../x",
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a\0b",
    "\ud800",
    "\u202e",
    "None",
    "true",
    "1",
    "x" * 300,
    "object:",
)
OTHERS = ("null", "true", "false", "[]", "{}", "[[]]", "[null]", '{"a":1}', '{"name":"cse"}', '{"object":"Mine"}', "", "nope", "'x'")


class Pairs(list[tuple[str, Any]]):
    """A JSON object whose keys may be there twice."""


@dataclass(frozen=True)
class Raw:
    """A text that stands in JSON as it is, whatever it says."""

    text: str


def parse(text: str | bytes) -> Any:
    return json.loads(text, object_pairs_hook=Pairs)


def dump(node: Any) -> str:
    """A node as JSON, as compact as it goes."""
    if isinstance(node, Raw):
        return node.text
    if isinstance(node, Pairs):
        return "{" + ",".join(f"{json.dumps(key)}:{dump(value)}" for key, value in node) + "}"
    if isinstance(node, list):
        return "[" + ",".join(map(dump, node)) + "]"
    return json.dumps(node)


def edited(node: Any, path: list[Any], change: Callable[[Any], Any]) -> Any:
    """The tree with `change` applied to the node at the path."""
    if not path:
        return change(node)
    step, rest = path[0], path[1:]
    if step == INNER:
        return dump(edited(parse(node), rest, change))
    place = _place(node, step)
    key, inner = node[place] if isinstance(node, Pairs) else (None, node[place])
    inner = edited(inner, rest, change)
    new = type(node)(node)
    new[place] = (key, inner) if isinstance(node, Pairs) else inner
    return new


def at(node: Any, path: list[Any]) -> Any:
    """The node at a path."""
    for step in path:
        node = parse(node) if step == INNER else node[_place(node, step)]
        node = node[1] if isinstance(node, tuple) else node
    return node


def _place(node: Any, step: Any) -> int:
    return next(i for i, (key, _) in enumerate(node) if key == step) if isinstance(node, Pairs) else int(step)


def paths(node: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all nodes, texts that hold JSON opened."""
    yield prefix
    if isinstance(node, str) and node[:1] in ("{", "["):
        yield from paths(parse(node), (*prefix, INNER))
    for i, item in enumerate(node[:50] if isinstance(node, list) else ()):
        key, inner = item if isinstance(node, Pairs) else (i, item)
        yield from paths(inner, (*prefix, key))


def text_of(value: dict[str, Any], tree: Any) -> str:
    """The JSON text of a value as operations describe it."""
    if "long" in value:
        return json.dumps("x" * value["long"])
    if "digits" in value:
        return "1" * int(value["digits"])
    if "nest" in value:
        return str(value["open"]) * int(value["nest"]) + str(value["close"]) * int(value["nest"])
    if "of" in value:
        return dump(at(tree, value["of"]))
    return str(value["raw"])


def change_json(text: bytes, path: list[Any], do: str, **arguments: Any) -> bytes:
    """JSON with one node altered."""
    tree = parse(text)
    return dump(edited(tree, path, lambda node: ACTIONS[do](node, tree, **arguments))).encode()


def change(content: bytes, operation: Operation) -> bytes:
    """JSON, or any bytes, altered by an operation of `draw` here or in `raw`."""
    arguments = {name: value for name, value in operation.items() if name != "op"}
    return change_json(content, **arguments) if operation["op"] == "json" else raw.BYTES[operation["op"]](content, **arguments)


def _set(node: Any, tree: Any, value: dict[str, Any]) -> Any:
    return Raw(text_of(value, tree))


def _add(node: Any, tree: Any, value: dict[str, Any], key: str = "", place: int = 0) -> Any:
    item: Any = Raw(text_of(value, tree))
    new = type(node)(node)
    new.insert(place, (key, item) if isinstance(node, Pairs) else item)
    return new


def _drop(node: Any, tree: Any, place: int) -> Any:
    return type(node)(item for i, item in enumerate(node) if i != place)


def _rename(node: Any, tree: Any, place: int, to: str) -> Any:
    return Pairs((to if i == place else key, value) for i, (key, value) in enumerate(node))


def _repeat(node: Any, tree: Any, place: int, times: int) -> Any:
    return type(node)([*node[:place], *[node[place]] * times, *node[place + 1 :]])


def _swap(node: Any, tree: Any, place: int, other: int) -> Any:
    new = type(node)(node)
    new[place], new[other] = new[other], new[place]
    return new


ACTIONS: dict[str, Callable[..., Any]] = {"set": _set, "add": _add, "drop": _drop, "rename": _rename, "repeat": _repeat, "swap": _swap}


def draw(random: Random, text: bytes) -> Operation:
    """One operation that fits the JSON, drawn by `random`; paths of any depth are equally likely."""
    tree = parse(text)
    every = [list(path) for path in paths(tree)]
    depth = random.choice(sorted({len(path) for path in every}))
    path = random.choice([path for path in every if len(path) == depth])
    node = at(tree, path)
    if isinstance(node, list) and node and random.random() < 0.7:
        return {"op": "json", "path": path, **_draw_inside(random, node, every)}
    return {"op": "json", "path": path, "do": "set", "value": draw_value(random, every, node)}


def _draw_inside(random: Random, node: list[Any], every: list[list[Any]]) -> Operation:
    place = random.randrange(len(node))
    value = draw_value(random, every)
    if not isinstance(node, Pairs):
        times = random.choice((2, 3, 1000))
        return random.choice(
            (
                {"do": "drop", "place": place},
                {"do": "repeat", "place": place, "times": times},
                {"do": "swap", "place": place, "other": random.randrange(len(node))},
                {"do": "add", "place": place, "value": value},
            )
        )
    key = random.choice((node[place][0], *TEXTS))
    return random.choice(
        (
            {"do": "drop", "place": place},
            {"do": "repeat", "place": place, "times": 2},
            {"do": "rename", "place": place, "to": key},
            {"do": "add", "place": random.choice((place, len(node))), "key": key, "value": value},
        )
    )


def draw_value(random: Random, every: list[list[Any]], node: Any = None) -> dict[str, Any]:
    """A value, most of them of another type than `node`, some close to it."""
    if isinstance(node, int | float) and random.random() < 0.3:
        return {"raw": json.dumps(random.choice((node + 1, node - 1, -node, node * 2, node * 1000)))}
    if isinstance(node, str) and random.random() < 0.3:
        return {"raw": json.dumps(random.choice((node[1:], node[:-1], f"{node}x", node.upper(), f"../{node}", node + "\0")))}
    brackets = random.choice((("[", "]"), ('{"a":', "}")))
    return random.choice(
        (
            lambda: {"raw": random.choice(NUMBERS)},
            lambda: {"raw": json.dumps(random.choice(TEXTS))},
            lambda: {"raw": random.choice(OTHERS)},
            lambda: {"of": random.choice(every)},
            lambda: random.choice(
                (
                    {"long": random.choice((1_001, 100_000))},
                    {"digits": random.choice((20, 400, 5_000))},
                    {"nest": random.choice((100, 1_000, 100_000)), "open": brackets[0], "close": brackets[1]},
                )
            ),
        )
    )()
