"""Coverage-guided fuzzing of one target, in this process, with atheris (libFuzzer); sbirlib's own modules are instrumented.

    python -m tests.fuzz.guided recipe --seconds 300
    python -m tests.fuzz.guided index_manifest --seconds 300

The input replaces one file of the target; where files carry digests, these are written anew each time. Half of the mutations are
libFuzzer's, half are those of `make fuzz`. An InputError is fine, as is any answer; anything else is written into tests/fuzz/corpus, once
for each exception and place, and the run goes on. A hang or too much memory ends the run, and libFuzzer keeps the input.
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from sbirlib.errors import InputError

if TYPE_CHECKING:
    from tests.fuzz.targets.target import Target

MISSING = "the guided runner needs atheris (Linux, Python up to 3.13): pip install atheris; `make fuzz` works without it"

INSTRUMENTED = ["sbirlib", "sbirlib_mathm", "benchmarks"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--file", default="", help="pattern of the file that is altered; the target's first unless given")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        raise SystemExit(MISSING) from None
    atheris.enabled_hooks.add("str")  # so that prefixes and suffixes which are compared are found; the hook of patterns breaks the library
    for library in ("torch", "timm", "faiss", "pydantic", "PIL.Image"):  # which are not instrumented
        importlib.import_module(library)
    for name in [name for name in sys.modules if name.partition(".")[0] == "sbirlib" and name != "sbirlib.errors"]:
        del sys.modules[name]
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz import harness, worker
        from tests.fuzz.targets.all import TARGETS
    if options.target not in TARGETS:
        parser.error(f"unknown target: {options.target}; known: {', '.join(TARGETS)}")
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    target = TARGETS[options.target]
    pattern = options.file or next(iter(target.forms))
    with harness.scratch() as folder:
        if process := os.fork():  # libFuzzer ends its process without a word: the folder is removed by this one
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
        with atheris.instrument_imports(include=INSTRUMENTED):  # components are imported on first use
            worker.prepare(target, folder)
        guided = Guided(target, folder, pattern)
        limits = [f"-max_total_time={options.seconds}", "-timeout=10", "-rss_limit_mb=4096", "-max_len=1000000", f"-seed={options.seed}"]
        arguments = [sys.argv[0], *limits, f"-artifact_prefix={Path.cwd()}/", str(guided.seeds)]
        atheris.Setup(arguments, guided.run, custom_mutator=guided.mutator(atheris))
        os.chdir(guided.place)
        atheris.Fuzz()


class Guided:
    """One file of a target, whose content libFuzzer chooses."""

    def __init__(self, target: Target, folder: Path, pattern: str) -> None:
        from tests.fuzz.case import has_digests

        self.target, self.form, self.place, self.seeds = target, target.forms[pattern], folder / "place", folder / "seeds"
        self.pristine = folder / "pristine"
        self.digests = has_digests(target, self.pristine)
        files = sorted(self.pristine.glob(pattern))
        self.file = files[0].relative_to(self.pristine)
        self.found: set[tuple[str, str]] = set()
        self.seeds.mkdir()
        for number, file in enumerate(files):
            shutil.copy(file, self.seeds / str(number))
        shutil.copytree(self.pristine, self.place)

    def run(self, content: bytes) -> None:
        """Read the files with this content."""
        from tests.fuzz.operations.apply import apply
        from tests.fuzz.worker import described

        operations = self._operations(content)
        shutil.copytree(self.pristine, self.place, dirs_exist_ok=True)
        apply(operations, self.place)
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                self.target.answer(self.place)
        except InputError:
            return
        except Exception as error:
            about = described(error)
            if (about["exception"], about["frame"]) not in self.found:
                self.found.add((about["exception"], about["frame"]))
                self._report(content, about)

    def mutator(self, atheris: Any) -> Callable[[bytes, int, int], bytes]:
        """libFuzzer's mutations, and those that know the format."""
        from tests.fuzz.operations import apply

        def mutate(content: bytes, largest: int, seed: int) -> bytes:
            random = Random(seed)
            if random.random() < 0.5:
                with suppress(Exception):  # the content may not be of that format any more
                    return apply.changed(content, apply.DRAWS[self.form](random, content))[:largest]
            mutated: bytes = atheris.Mutate(content, largest)
            return mutated

        return mutate

    def _operations(self, content: bytes) -> list[dict[str, Any]]:
        from tests.fuzz.operations.raw import of_content

        replaced = {"file": self.file.as_posix(), **of_content(content)}
        return [replaced, {"op": "reseal"}] if self.digests else [replaced]

    def _report(self, content: bytes, about: dict[str, str]) -> None:
        from tests.fuzz.case import Case

        name = Case(self.target.name, self._operations(content)).save()
        print(f"{about['exception']} at {about['frame']}: {about['message'][:200]}\n  saved {name}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
