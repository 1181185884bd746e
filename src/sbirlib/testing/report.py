"""Report of a component under torch.compile and torch.export, which no check requires."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import Tensor, nn

from sbirlib.testing.behaviour import changed, inputs, tensors
from sbirlib.testing.subject import Subject, seeded


def lines(subject: Subject) -> list[str]:
    """One line for torch.compile, without code generation, and one for torch.export, of a call in eval mode."""
    component = subject.make().eval()
    arguments = inputs(subject, component)
    values: list[Tensor] = []
    changed(arguments, lambda value: values.append(value) or value)  # type: ignore[func-returns-value]
    call = _Call(component, arguments)
    with _quiet(), torch.no_grad():
        expected = _seeded(call, values)
        return [f"{subject.id}: {way}: {_outcome(run, call, values, expected)}" for way, run in WAYS.items()]


def _outcome(
    run: Callable[[_Call, list[Tensor]], tuple[list[Tensor], str]], call: _Call, values: list[Tensor], expected: list[Tensor]
) -> str:
    try:
        results, remark = run(call, values)
    except Exception as error:  # whatever torch's tracers raise
        return f"raises {type(error).__name__}: {_first_line(error)}"
    same = len(results) == len(expected) and all(map(_close, results, expected))
    return ("the same result" if same else "another result") + remark


def _compiled(call: _Call, values: list[Tensor]) -> tuple[list[Tensor], str]:
    torch._dynamo.reset()
    explanation = torch._dynamo.explain(call)(*values)
    torch._dynamo.reset()
    results = _seeded(torch.compile(call, backend="eager"), values)
    reasons = sorted({_first_line(reason.reason) for reason in explanation.break_reasons})
    return results, f", graph breaks: {explanation.graph_break_count}" + (f" ({'; '.join(reasons)})" if reasons else "")


def _exported(call: _Call, values: list[Tensor]) -> tuple[list[Tensor], str]:
    return _seeded(torch.export.export(call, tuple(values), strict=False).module(), values), ""


WAYS = {"torch.compile": _compiled, "torch.export": _exported}


class _Call(nn.Module):
    """A component as a function of the tensors of its arguments to those of its result."""

    def __init__(self, component: nn.Module, arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self.component, self.arguments = component, arguments

    def forward(self, *values: Tensor) -> list[Tensor]:
        """Tensors of the result, of any shape."""
        rest = iter(values)
        return [value for _, value in tensors(self.component(*changed(self.arguments, lambda _: next(rest))))]


def _seeded(call: Callable[..., list[Tensor]], values: list[Tensor]) -> list[Tensor]:
    with seeded(0):
        return call(*values)


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one.double(), other.double(), rtol=1e-4, atol=1e-6, equal_nan=True)


def _first_line(text: object) -> str:
    return str(text).strip().partition("\n")[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave torch's own warnings and graphs out, for the report says the same."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
