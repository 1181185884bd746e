"""Second process of the checks, with other hashes: started when it is first needed, and kept for all components."""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from sbirlib.testing.behaviour import observed
from sbirlib.testing.subject import Subject

START = "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from sbirlib.testing.worker import serve; serve()"


def ask(subject: Subject) -> None:
    """Let the second process make and call a component."""
    process = start()
    assert process.stdin is not None
    sent = replace(subject, oracle=None, beside={key: dict(table) for key, table in subject.beside.items()})
    process.stdin.write(pickle.dumps((sys.path, torch.get_num_threads(), sent)))
    process.stdin.flush()


def answer() -> dict[str, Tensor] | str:
    """Its behaviour there, tensors of any shape by name, or the text of the error that it raises there."""
    process = start()
    assert process.stdout is not None
    behaviour: dict[str, Tensor] | str = pickle.load(process.stdout)
    return behaviour


@cache
def start() -> subprocess.Popen[bytes]:
    """The second process, started by the first call."""
    hashes = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = {**os.environ, "PYTHONHASHSEED": hashes}
    process = subprocess.Popen([sys.executable, "-c", START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(sys.path))
    process.stdin.flush()
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    """End of its input ends the process."""
    assert process.stdin is not None
    process.stdin.close()
    process.wait()


def serve() -> None:
    """Answer each subject with its behaviour, or the text of an error, until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a component may print
    while True:
        try:
            path, threads, subject = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        sys.path[:] = path
        torch.set_num_threads(threads)
        answers.write(pickle.dumps(_answer(subject)))
        answers.flush()


def _answer(subject: Subject) -> dict[str, Tensor] | str:
    try:
        return observed(subject, subject.make())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
