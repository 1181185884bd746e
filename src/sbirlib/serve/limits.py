"""Limits of one request and of all together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt

from sbirlib.options import hold


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Most that a request may ask for, and that all may take together.

    Args:
        bytes: size of a request's body
        values: values in a body of JSON, each wrong one of which takes time and memory to name
        pixels: pixels of an image that is sent
        k: photos in one answer
        depth: photos that scrolling reaches, offset and k together
        requests: requests at work at once
        body_seconds: time for a request's body to arrive
        seconds: time for an answer
    """

    bytes: Annotated[int, Ge(1)] = 10_000_000
    values: Annotated[int, Ge(1)] = 100_000
    pixels: Annotated[int, Ge(1)] = 16_000_000
    k: Annotated[int, Ge(1)] = 200
    depth: Annotated[int, Ge(1)] = 2_000
    requests: Annotated[int, Ge(1)] = 256
    body_seconds: Annotated[float, Gt(0)] = 10.0
    seconds: Annotated[float, Gt(0)] = 30.0

    def __post_init__(self) -> None:
        hold(Limits, vars(self))
