"""Operations on the bytes of a file of any format."""

from __future__ import annotations

import base64
from collections.abc import Callable
from random import Random
from typing import Any

Operation = dict[str, Any]  # "op", "file" and the operation's own arguments, all of them JSON

PATTERNS = (
    b"\0",
    b"\xff",
    b"0",
    b"9",
    b'"',
    b"'",
    b"\n",
    b"\r\n",
    b",",
    b"{",
    b"[",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\\u0000",
)
INTEGERS = (0, 1, -1, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1)
FAR = 2**28 + 1  # bytes of a file that is almost all zeros, which takes no room on disk


def flip(content: bytes, at: int, bit: int) -> bytes:
    """Flip one bit."""
    return write(content, at, bytes([content[at] ^ 1 << bit]).hex())


def write(content: bytes, at: int, hex: str) -> bytes:
    """Overwrite bytes; the length stays."""
    new = bytes.fromhex(hex)[: max(len(content) - at, 0)]
    return content[:at] + new + content[at + len(new) :]


def insert(content: bytes, at: int, hex: str, times: int = 1) -> bytes:
    """Insert bytes, so many times."""
    return content[:at] + bytes.fromhex(hex) * times + content[at:]


def delete(content: bytes, at: int, count: int) -> bytes:
    """Delete a block."""
    return content[:at] + content[at + count :]


def copy(content: bytes, at: int, count: int, to: int) -> bytes:
    """Insert a copy of a block elsewhere."""
    return content[:to] + content[at : at + count] + content[to:]


def swap(content: bytes, at: int, count: int, to: int) -> bytes:
    """Swap two blocks of one length; blocks that overlap stay."""
    first, second = sorted((at, to))
    if second < first + count:
        return content
    one, two = content[first : first + count], content[second : second + count]
    return content[:first] + two + content[first + count : second] + one + content[second + count :]


def truncate(content: bytes, at: int) -> bytes:
    """Cut off all from a position on."""
    return content[:at]


def replace(content: bytes, base64_: str) -> bytes:
    """Another content."""
    return base64.b64decode(base64_)


BYTES: dict[str, Callable[..., bytes]] = {
    "flip": flip,
    "write": write,
    "insert": insert,
    "delete": delete,
    "copy": copy,
    "swap": swap,
    "truncate": truncate,
    "replace": replace,
}


def of_content(content: bytes) -> Operation:
    """The operation that makes any file this one."""
    return {"op": "replace", "base64_": base64.b64encode(content).decode()}


def draw(random: Random, content: bytes) -> Operation:
    """One operation that fits the content, drawn by `random`."""
    size = len(content)
    if size == 0 or random.random() < 0.03:
        return {"op": "insert", "at": 0, "hex": random.choice(PATTERNS).hex(), "times": random.choice((1, 3, 1000))}
    at = _position(random, size)
    count = random.choice((1, 1, 2, 4, 8, 64, max(size // 10, 1)))
    return random.choice(
        (
            lambda: {"op": "flip", "at": at, "bit": random.randrange(8)},
            lambda: {"op": "write", "at": at, "hex": (random.choice(PATTERNS) * count)[:count].hex()},
            lambda: {"op": "write", "at": at, "hex": random.randbytes(count).hex()},
            lambda: {"op": "write", "at": at, "hex": _integer(random)},
            lambda: {"op": "insert", "at": at, "hex": random.choice(PATTERNS).hex(), "times": random.choice((1, 2, 300))},
            lambda: {"op": "insert", "at": at, "hex": random.randbytes(min(count, 64)).hex()},
            lambda: {"op": "delete", "at": at, "count": count},
            lambda: {"op": "copy", "at": at, "count": count, "to": _position(random, size)},
            lambda: {"op": "swap", "at": at, "count": count, "to": _position(random, size)},
            lambda: {"op": "truncate", "at": random.choice((0, 1, 7, 8, 9, at, size - 1))},
            lambda: {"op": "insert", "at": size, "hex": random.choice(PATTERNS).hex(), "times": random.choice((1, 8, 5000))},
        )
    )()


def draw_file(random: Random) -> Operation:
    """One operation on the file itself: it is gone, it is a folder, a link to nothing, or almost endless."""
    kind = random.choice(("missing", "folder", "link", "sparse"))
    return {"op": kind, **({"size": FAR} if kind == "sparse" else {})}


def _position(random: Random, size: int) -> int:
    """A position in the content: at its ends as often as within."""
    return random.choice(
        (
            random.randrange(min(size, 16)),
            random.randrange(min(size, 300)),
            size - 1 - random.randrange(min(size, 64)),
            random.randrange(size),
        )
    )


def _integer(random: Random) -> str:
    """An integer at which lengths and counts go wrong, as hexadecimal digits of its bytes."""
    value, width = random.choice(INTEGERS), random.choice((2, 4, 8))
    return to_hex(value, width, little=random.random() < 0.5)


def to_hex(value: int, width: int, *, little: bool) -> str:
    """The bytes of an integer, as hexadecimal digits; of one that is too large the low bytes."""
    return (value & ((1 << 8 * width) - 1)).to_bytes(width, "little" if little else "big").hex()
