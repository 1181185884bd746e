"""The child process of the fuzzer: one target, many cases one after another, each within its limits of memory."""

from __future__ import annotations

import faulthandler
import io
import json
import logging
import os
import re
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import timm  # noqa: F401 - and with it all that models import when they are made, once for all children
import torch
from tests.fuzz.case import FAILURE, INPUT_ERROR, OTHER, SAME, Case, Outcome, digests
from tests.fuzz.operations.apply import apply
from tests.fuzz.targets.all import TARGETS
from tests.fuzz.targets.target import Target

from sbirlib.errors import InputError

SECONDS, MEMORY = 10.0, 2**31  # limits of a case; memory is address space above the level at its start
ROOT = Path(__file__).parents[2]
OURS = re.compile(r"(src/sbirlib\w*/.*|benchmarks/experiments/.*)")


def serve(connection: Connection, name: str, folder: Path) -> None:
    """Answer cases with outcomes, until the connection closes; the first message says whether the unaltered files are read as they should.

    `folder` holds "pristine", the unaltered files, which the first child makes, and "trace", where a child that dies leaves its frames.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries in C write there
    with open(folder / "trace", "w", encoding="utf-8") as trace:
        faulthandler.enable(trace)
        target = TARGETS[name]
        try:
            expected = prepare(target, folder)
        except BaseException as error:
            connection.send(Outcome(FAILURE, **described(error)))
            return
        connection.send(Outcome(SAME))
        while True:
            try:
                case = connection.recv()
            except EOFError:
                return
            faulthandler.dump_traceback_later(SECONDS, file=trace)
            outcome = judge(target, case, folder, expected)
            faulthandler.cancel_dump_traceback_later()
            connection.send(outcome)


def prepare(target: Target, folder: Path) -> str:
    """The answer to the unaltered files; the first child makes them."""
    pristine, answer = folder / "pristine", folder / "answer"
    if not answer.is_file():
        shutil.rmtree(pristine, ignore_errors=True)
        pristine.mkdir()
        target.make(pristine)
    with _scratch(folder):
        shutil.copytree(pristine, ".", dirs_exist_ok=True)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            expected = json.dumps(target.answer(Path.cwd()))
    if not answer.is_file():
        answer.write_text(expected, encoding="utf-8")
    elif answer.read_text(encoding="utf-8") != expected:
        raise AssertionError("the unaltered files give another answer in another process")
    return expected


def judge(target: Target, case: Case, folder: Path, expected: str) -> Outcome:
    """The outcome of one case."""
    pristine = folder / "pristine"
    with _scratch(folder) as scratch:
        shutil.copytree(pristine, scratch, dirs_exist_ok=True)
        apply(case.operations, scratch)
        free = _without_digests(target, pristine, scratch) or any(operation["op"] == "reseal" for operation in case.operations)
        level = _start()
        start = time.perf_counter()
        try:
            with _limited(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                answer = json.dumps(target.answer(scratch))
            verdict, about = SAME if answer == expected else OTHER, {}
            if not free and not target.agrees(json.loads(answer), json.loads(expected)):
                verdict, about = FAILURE, {"exception": "another answer", "message": f"{answer[:150]} instead of {expected[:150]}"}
        except InputError as error:
            verdict, about = INPUT_ERROR, {"message": str(error)[:300]}
        except BaseException as error:
            verdict, about = FAILURE, described(error)
        seconds = time.perf_counter() - start
        if seconds > SECONDS:
            verdict, about = FAILURE, {"exception": "hang", "message": f"{seconds:.1f} s"}
        return Outcome(verdict, seconds, max(_peak() - level, 0) / 2**20, case=case, **about)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A new folder, which is the current one for a while."""
    scratch = folder / f"scratch-{os.getpid()}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    os.chdir(scratch)
    try:
        yield scratch
    finally:
        os.chdir(ROOT)
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _limited() -> Iterator[None]:
    """Let the process take so much more address space than it has."""
    size = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _start() -> int:
    """Bytes in memory now; their peak is counted anew from here."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return _memory("VmRSS")


def _peak() -> int:
    return _memory("VmHWM")


def _memory(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def _without_digests(target: Target, pristine: Path, scratch: Path) -> bool:
    """Whether the files have no digests, or have lost one: then they are as those of earlier versions, which none can verify."""
    before = digests(target, pristine)
    return before == 0 or digests(target, scratch) < before


def described(error: BaseException) -> dict[str, Any]:
    """Exception, innermost frame inside sbirlib, and message."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if OURS.search(frame.filename)] or list(frames)
    frame = f"{_short(inside[-1].filename)}:{inside[-1].lineno} {inside[-1].name}" if inside else ""
    return {"exception": type(error).__name__, "frame": frame, "message": _text(error)}


def _text(error: Any) -> str:
    try:
        return str(error)[:300].encode("utf-8", "backslashreplace").decode()
    except Exception:
        return "an exception without a text"


def _short(filename: str) -> str:
    found = OURS.search(filename)
    return found[1] if found else os.path.basename(filename)


def innermost(trace: str) -> str:
    """The innermost frame inside sbirlib of a trace that faulthandler left."""
    for filename, line, name in re.findall(r'File "([^"]+)", line (\d+) in (\S+)', trace):
        if OURS.search(filename):
            return f"{_short(filename)}:{line} {name}"
    return ""


if __name__ == "__main__":
    sys.exit("run `make fuzz`")
