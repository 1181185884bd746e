"""Language and size of the code, counted: the words of docs/glossary.md, noun names, shapes, short functions and files."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "plugins", "benchmarks", "tests", "examples")
FILES = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py")) if ".venv" not in file.parts]
PARTICIPLES = frozenset(
    [
        "found",
        "made",
        "given",
        "told",
        "drawn",
        "chosen",
        "taken",
        "asked",
        "seen",
        "said",
        "held",
        "known",
        "moved",
        "named",
        "shown",
        "begun",
        "kept",
        "written",
    ]
)
SHAPE = re.compile(r"\[[A-Za-z0-9.][\w.^'+* /]*(, ?[\w.^'+* /]+)*\]|\[\]|shape|scalar")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def trees(folder: str) -> Iterator[tuple[Path, str, ast.Module]]:
    for file in FILES:
        if file.is_relative_to(ROOT / folder):
            text = file.read_text(encoding="utf-8")
            yield file, text, ast.parse(text)


def prose(folder: str) -> list[str]:
    """Docstrings and comments of a folder."""
    texts = []
    for _, text, tree in trees(folder):
        texts += [doc for node in ast.walk(tree) if isinstance(node, DOCUMENTED) and (doc := ast.get_docstring(node))]
        texts += [t.string for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT]
    return texts


@pytest.mark.parametrize("folder", FOLDERS)
def test_prose_is_direct(folder: str) -> None:
    """A question word as a pronoun makes a sentence hard to search: at most one in a thousand words."""
    words = re.findall(r"[A-Za-z']+", " ".join(prose(folder)))
    count = sum(word.lower() == "what" for word in words)
    assert count <= max(1, len(words) / 1000), f"{count} in {len(words)} words"


@pytest.mark.parametrize("folder", FOLDERS)
def test_variables_are_nouns(folder: str) -> None:
    """Bare participles name a state, not a thing: at most one in a thousand assignments, three in tests."""
    names = [
        (node.id, f"{file.relative_to(ROOT)}:{node.lineno}")
        for file, _, tree in trees(folder)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    participles = [f"{place} {name}" for name, place in names if name in PARTICIPLES]
    assert len(participles) <= max(1, (3 if folder == "tests" else 1) * len(names) / 1000), "\n".join(participles)


@pytest.mark.parametrize("folder", ["src", "plugins", "benchmarks"])
def test_public_functions_with_tensors_state_shapes(folder: str) -> None:
    functions = [
        (f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", bool(SHAPE.search(ast.get_docstring(node) or "")))
        for file, _, tree in trees(folder)
        if "tests" not in file.parts
        for scope in ast.walk(tree)
        if isinstance(scope, ast.Module | ast.ClassDef)
        for node in scope.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and _has_tensors(node)
    ]
    without = [name for name, shaped in functions if not shaped]
    assert len(without) <= 0.05 * len(functions), f"{len(without)} of {len(functions)}:\n" + "\n".join(without)


def _has_tensors(node: ast.FunctionDef) -> bool:
    signature = ast.unparse(node.args) + (ast.unparse(node.returns) if node.returns else "")
    return bool(re.search(r"Tensor|Array", signature))


def test_functions_and_files_are_short() -> None:
    long = []
    for folder in FOLDERS:
        for file, text, tree in trees(folder):
            lines = text.count("\n")
            long += [f"{file.relative_to(ROOT)}: {lines} lines"] if lines > 350 else []
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno + 1 > 50:
                    long.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines")
    assert not long, "\n".join(long)


def test_a_module_begins_with_a_noun_phrase() -> None:
    """The first word of a module's docstring names the thing; a question word does not."""
    openers = ("What", "How", "Which", "Where", "Whether", "Why", "Who", "When")
    bad = [
        f"{file.relative_to(ROOT)}: {doc.splitlines()[0]}"
        for folder in FOLDERS
        for file, _, tree in trees(folder)
        if (doc := ast.get_docstring(tree)) and doc.split()[0].rstrip(",:") in openers
    ]
    assert not bad, "\n".join(bad)


RENAMED = {  # words of docs/glossary.md's third column, as identifiers that must not come back
    "whole_file": "atomic_write",
    "begin_with": "warm_start",
    "keep_freed_memory_when": "keep_freed_memory",
}


def test_old_names_do_not_come_back() -> None:
    for folder in FOLDERS:
        for file, text, _ in trees(folder):
            if file != Path(__file__):
                for old, new in RENAMED.items():
                    assert not re.search(rf"\b{old}\b", text), f"{file.relative_to(ROOT)}: {old} is called {new}"
