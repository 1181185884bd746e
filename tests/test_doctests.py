"""Doctests of every module, run in a folder with small data and with the names that examples use; none is skipped."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jaxtyping
import pytest
import torch
from tests.examples_world import world_of_examples

import sbirlib

PACKAGES = ("sbirlib", "sbirlib_acnet", "sbirlib_generative", "sbirlib_landmarks", "sbirlib_mathm", "sbirlib_vtd")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NETWORK = "needs a network"  # in the comment of an example that is skipped


def modules() -> Iterator[ModuleType]:
    for name in PACKAGES:
        package = importlib.import_module(name)
        yield package
        for info in pkgutil.walk_packages(package.__path__, f"{name}."):
            yield importlib.import_module(info.name)


def doctests() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    unique = {test.name: test for module in modules() for test in finder.find(module, module.__name__) if test.examples}
    return list(unique.values())


TESTS = doctests()


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("examples")
    return folder, world_of_examples(folder)


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.name)
def test_an_example_gives_what_it_shows(
    test: doctest.DocTest, examples: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, names = examples
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    test.globs = {**vars(sbirlib), **names, **test.globs}
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", "exchange" in test.name)  # a graph is traced with symbols for numbers
    runner.run(test, out=output.append, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)


def test_only_examples_that_need_a_network_are_skipped() -> None:
    skipped = [
        f"{test.name}: {example.source.strip()}"
        for test in TESTS
        for example in test.examples
        if example.options.get(doctest.SKIP) and NETWORK not in example.source
    ]
    assert not skipped, "\n".join(skipped)
