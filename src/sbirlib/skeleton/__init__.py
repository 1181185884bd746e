"""Templates of a new plugin distribution."""

from __future__ import annotations

import importlib.resources
import keyword
from pathlib import Path
from string import Template

from sbirlib import registry
from sbirlib.errors import InputError, nearest
from sbirlib.files import atomic_write

KINDS = ("encoder", "miner", "loss", "evaluator", "recipe")


def new_plugin(name: str, *, kind: str, folder: str | Path = ".") -> Path:
    """Write the distribution `sbirlib-<name>`, which offers one component of that kind and passes every check; return its folder.

    Raises InputError for a kind without a skeleton, a name that no module can have or that exists already, and a folder that exists.
    """
    if kind not in KINDS:
        raise InputError(f"there is no skeleton for the kind {kind!r}{nearest(kind, KINDS)}")
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise InputError(f"a component's name is a lower-case word that Python accepts as a module's, such as my_{kind}, got {name!r}")
    if name in registry.list_parts(kind):
        raise InputError(f"there is a {kind} {name!r} already, by {registry.entry(kind, name).source}: choose another name")
    distribution = f"sbirlib-{name.replace('_', '-')}"
    root = Path(folder) / distribution
    if root.exists():
        raise InputError(f"{str(root)!r} is there already: choose another name or folder")
    package = f"sbirlib_{name}"
    words = {
        "name": name,
        "kind": kind,
        "group": registry.GROUPS[kind],
        "distribution": distribution,
        "package": package,
        "target": package if kind == "recipe" else f"{package}.{name}:{class_name(name)}",
        "class": class_name(name),
    }
    source = root / "src" / package
    files = {
        root / "pyproject.toml": "pyproject.toml",
        root / "README.md": "README.md",
        root / "tests" / "test_conformance.py": "test_conformance.py",
        source / "__init__.py": "package.py",
        source / (f"{name}.toml" if kind == "recipe" else f"{name}.py"): "recipe.toml" if kind == "recipe" else f"{kind}.py",
    }
    templates = importlib.resources.files(__name__)
    for path, template in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = Template(templates.joinpath(f"{template}.in").read_text(encoding="utf-8")).substitute(words)
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8")
    return root


def class_name(name: str) -> str:
    """Class name of a component.

    >>> class_name("multi_similarity")
    'MultiSimilarity'
    """
    return "".join(word.capitalize() for word in name.split("_"))
