"""Imports of a component's modules, read from their source; nothing is run."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ABOVE_PARTS = ("sbirlib.training", "sbirlib.pipeline", "sbirlib.search", "sbirlib.testing", "sbirlib.demo", "sbirlib.cli")


def faults(module: str, distribution: str) -> list[str]:
    """Faults of the imports of a module, and of the modules of its own package that it imports, in words."""
    own = module.partition(".")[0]
    declared = _declared(distribution) | {own}
    problems = []
    for name, source in _modules(module).items():
        tree = ast.parse(source.read_text(encoding="utf-8"))
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | set(_exported(tree)) | _quoted(tree)
        for imported, bound in _imports(tree, name, package=source.name == "__init__.py"):
            top = imported.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in declared and not _provides(declared, top):
                problems.append(f"{name} imports {top}, which {distribution} does not name in its dependencies")
            if own != "sbirlib" and any(imported == room or imported.startswith(f"{room}.") for room in ABOVE_PARTS):
                problems.append(
                    f"{name} imports {imported}: a component knows the contract, not the code that trains, evaluates or serves it"
                )
            if bound not in used and imported != "__future__" and not (source.name == "__init__.py" and imported.startswith(own)):
                problems.append(f"{name} imports {imported} and does not use it")
    return problems


def _modules(module: str) -> dict[str, Path]:
    """Source files of a module, its parent packages, and the modules of the same package that they import, by name."""
    own, modules, ahead = module.partition(".")[0], {}, [module]
    while ahead:
        name = ahead.pop()
        spec = importlib.util.find_spec(name)
        if name in modules or spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            continue
        modules[name] = Path(spec.origin)
        tree = ast.parse(modules[name].read_text(encoding="utf-8"))
        inner = [i for i, _ in _imports(tree, name, package=spec.submodule_search_locations is not None)]
        ahead += [i for i in (*inner, name.rpartition(".")[0]) if i.partition(".")[0] == own]
    return {name: path for name, path in modules.items() if own != "sbirlib" or name == module}


def _imports(tree: ast.Module, name: str, *, package: bool) -> Iterator[tuple[str, str]]:
    """Modules imported when a module is, each with the name that it binds; imports inside functions and for type checkers are left out."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, alias.asname or alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(name.split(".")[: len(name.split(".")) + package - node.level]) if node.level else ""
            source = ".".join(part for part in (base, node.module or "") if part)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield (inner if not node.module and node.level else source), alias.asname or alias.name


def _exported(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            yield from (str(e.value) for e in getattr(node.value, "elts", ()) if isinstance(e, ast.Constant))


def _quoted(tree: ast.Module) -> set[str]:
    """Names in annotations that are written as text."""
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and len(n.value) < 100]
    return {word for text in texts for word in text.replace("[", " ").replace("]", " ").replace(",", " ").replace(".", " ").split()}


@cache
def _declared(distribution: str) -> frozenset[str]:
    """Distributions that a distribution requires, and itself, as importable names are spelled."""
    required = [Requirement(text).name for text in metadata.requires(distribution) or ()]
    return frozenset(name.lower().replace("-", "_") for name in (*required, distribution))


def _provides(declared: frozenset[str], top: str) -> bool:
    """Whether a module belongs to a declared distribution of another name, such as PIL to pillow."""
    return any(name.lower().replace("-", "_") in declared for name in _distributions().get(top, ()))


@cache
def _distributions() -> dict[str, list[str]]:
    return {top: list(names) for top, names in metadata.packages_distributions().items()}
