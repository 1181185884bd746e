"""Operations on image files: chunks of a PNG, entries of a TIFF, and integers in any of them."""

from __future__ import annotations

import struct
import zlib
from random import Random

from tests.fuzz.operations import raw
from tests.fuzz.operations.raw import INTEGERS, Operation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
Chunk = tuple[bytes, bytes]
WHOLE_HEADER = struct.Struct(">IIBBBBB")
SIDES = (0, 1, 3, 8_000, 8_001, 40_000, 2**31 - 1, 2**32 - 1)
LARGE = b"x\0\0" + zlib.compress(b"\0" * 5_000_000)  # a text or profile that inflates to much more than it says
KINDS = ("IHDR", "PLTE", "IDAT", "IEND", "tRNS", "gAMA", "iCCP", "zTXt", "iTXt", "eXIf", "acTL", "fcTL", "fdAT", "xxxx", "XXXX")


def chunks(content: bytes) -> list[Chunk]:
    """The chunks of a PNG: kind and data."""
    place, found = len(SIGNATURE), list[Chunk]()
    while place < len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        found.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += length + 12
    return found


def joined(found: list[Chunk]) -> bytes:
    """A PNG of these chunks, with checksums that fit them."""
    parts = (len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in found)
    return SIGNATURE + b"".join(parts)


def change_chunk(content: bytes, chunk: int, do: str, hex: str = "", at: int = 0, kind: str = "", times: int = 1) -> bytes:
    """The PNG with one chunk altered, and a checksum that fits."""
    found = chunks(content)
    name, data = found[chunk]
    if do == "write":
        new = [(name, raw.write(data, at, hex))]
    elif do == "inflated":  # the data of an IDAT: altered between inflating and deflating
        new = [(name, zlib.compress(raw.write(zlib.decompress(data), at, hex)))]
    elif do == "kind":
        new = [(kind.encode(), data)]
    elif do == "add":
        new = [(name, data), (kind.encode(), bytes.fromhex(hex) * times)]
    else:
        new = [(name, data)] * times
    return joined(found[:chunk] + new + found[chunk + 1 :])


def change_entry(content: bytes, entry: int, field: int, value: int) -> bytes:
    """The TIFF (little-endian) with one field of an entry of its first directory altered: 0 tag, 1 type, 2 count, 3 value."""
    directory = int.from_bytes(content[4:8], "little")
    place = directory + 2 + 12 * entry + (0, 2, 4, 8)[field]
    width = (2, 2, 4, 4)[field]
    return raw.write(content, place, raw.to_hex(value, width, little=True))


def draw_png(random: Random, content: bytes) -> Operation:
    """One operation on a PNG; a third of them on its bytes."""
    if random.random() < 0.33:
        return draw(random, content)
    found = chunks(content)
    chunk = random.randrange(len(found))
    op = {"op": "chunk", "chunk": chunk}
    width, height = random.choice(SIDES), random.choice(SIDES)
    kinds = (random.choice((1, 2, 4, 8, 16, 3)), random.choice((0, 2, 3, 4, 6, 1)), 0, 0, random.choice((0, 1)))
    large = {"kind": random.choice(("zTXt", "iCCP")), "hex": LARGE.hex()}
    return random.choice(
        (
            lambda: {"op": "chunk", "chunk": 0, "do": "write", "at": 0, "hex": WHOLE_HEADER.pack(width, height, *kinds).hex()},
            lambda: {"op": "chunk", "chunk": 0, "do": "write", "at": 8, "hex": bytes(kinds).hex()},
            lambda: {**op, "do": "write", "at": random.randrange(max(len(found[chunk][1]), 1)), "hex": random.randbytes(4).hex()},
            lambda: {"op": "chunk", "chunk": 1, "do": "inflated", "at": random.randrange(200), "hex": random.randbytes(3).hex()},
            lambda: {**op, "do": "kind", "kind": random.choice(KINDS)},
            lambda: {
                **op,
                "do": "add",
                "kind": random.choice(KINDS),
                "hex": random.randbytes(26).hex(),
                "times": random.choice((0, 1, 1, 9)),
            },
            lambda: {**op, "do": "add", **large},
            lambda: {**op, "do": "times", "times": random.choice((0, 2, 500))},
        )
    )()


def draw_tiff(random: Random, content: bytes) -> Operation:
    """One operation on a TIFF; a third of them on its bytes."""
    if random.random() < 0.33:
        return draw(random, content)
    directory = int.from_bytes(content[4:8], "little")
    count = int.from_bytes(content[directory : directory + 2], "little")
    value = random.choice((*INTEGERS, *SIDES, random.randrange(2**16), directory, 256, 257, 258, 259, 262, 273, 277, 279, 317, 320, 34665))
    return {"op": "entry", "entry": random.randrange(count), "field": random.randrange(4), "value": value}


def draw(random: Random, content: bytes) -> Operation:
    """One operation on any image: bytes in its first half more often."""
    if random.random() < 0.3:
        at, width = random.randrange(min(len(content), 200)), random.choice((1, 2, 4))
        return {"op": "write", "at": at, "hex": raw.to_hex(random.choice((*INTEGERS, *SIDES)), width, little=random.random() < 0.5)}
    return raw.draw(random, content)
