"""Pages of the reference, from docstrings, options, recipes and stored results. A public name without a docstring raises ValueError."""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Sequence
from functools import cache
from importlib import import_module, resources
from pathlib import Path
from statistics import mean, median
from typing import Any

import typer

import sbirlib
from benchmarks.experiments import definition
from benchmarks.experiments.verdicts import Run, finished, runs_of
from sbirlib import plugin_api, recipe_file, registry, search
from sbirlib.cli import app as commands
from sbirlib.data import dataset
from sbirlib.options import REQUIRED, Option, options_of
from sbirlib.recipe import Recipe

KINDS = [kind for kind in registry.GROUPS if kind != "recipe"]
EXAMPLE = re.compile(r"((?:^>>> .*\n(?:^(?!>>>)\S.*\n|^\.\.\. .*\n|^    .*\n)*)+)", flags=re.MULTILINE)


def write(folder: Path) -> None:
    """Write all pages into a folder that holds nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "recipes").mkdir(parents=True)
    pages = {"api": api(), "plugin_api": names_of(plugin_api, "Plugin API"), "command_line": command_line(), "recipes": recipes()}
    pages |= {plural(kind): components(kind) for kind in KINDS} | {f"recipes/{name}": recipe(name) for name in names("recipe")}
    pages["index"] = index(list(pages))
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text.rstrip() + "\n", encoding="utf-8")


def index(pages: Sequence[str]) -> str:
    """The page that lists the others."""
    tree = "\n".join(name for name in pages if "/" not in name)
    return f"# Reference\n\nWritten from the code at each build of the site.\n\n```{{toctree}}\n:maxdepth: 1\n\n{tree}\n```\n"


def api() -> str:
    """The names of `sbirlib` itself, and the classes that they return."""
    return names_of(sbirlib, "Python API", {"Dataset": dataset.Dataset, "SearchIndex": search.SearchIndex})


def names_of(module: Any, title: str, more: dict[str, Any] | None = None) -> str:
    """All public names of a module, with their signatures, docstrings and public methods."""
    objects = {name: getattr(module, name) for name in module.__all__} | (more or {})
    about = prose(inspect.getdoc(module) or "", module.__name__)
    return f"# {title}\n\n{about}\n\n" + "\n".join(entry(name, value) for name, value in objects.items())


def entry(name: str, value: Any, level: int = 2) -> str:
    """A name: heading, signature, docstring, and the public methods of a class."""
    head = f"{'#' * level} {name}\n"
    if not callable(value) or not (inspect.isclass(value) or inspect.isroutine(value)):
        return f"{head}\n`{value}`\n"
    lines = [head, f"```python\n{name}{signature(value)}\n```\n", prose(inspect.getdoc(value) or "", name)]
    if inspect.isclass(value):
        methods = {key: member for key, member in vars(value).items() if not key.startswith("_") and callable(getattr(value, key))}
        lines += [entry(f"{name}.{key}", getattr(value, key), level + 1) for key, member in methods.items() if not isinstance(member, type)]
    return "\n".join(lines)


def signature(value: Any) -> str:
    """Parameters of a class or function; empty where Python cannot tell."""
    try:
        text = str(inspect.signature(value))
    except (TypeError, ValueError):
        return "(...)"
    return re.sub(r"<factory>|<object object at \w+>", "...", text)


def prose(text: str, name: str) -> str:
    """A docstring as Markdown: examples fenced, `Args:` a list. Raises ValueError where there is none."""
    if not text.strip():
        raise ValueError(f"{name} has no docstring: write one")
    text = re.sub(r"^Args:\n((?:    .*\n?)+)", lambda match: arguments(match[1]), text + "\n", flags=re.MULTILINE)
    text = EXAMPLE.sub(lambda match: f"```python\n{match[1].rstrip()}\n```\n", text)
    lines, fenced = list[str](), False
    for line in text.splitlines(keepends=True):
        fenced ^= line.startswith("```")
        lines.append(line if fenced or line.startswith("    ") else escaped(line))
    return "".join(lines)


def escaped(line: str) -> str:
    """A line of prose without what Markdown would take for HTML."""
    return re.sub(r"<(?=[\w/!])", "&lt;", line)


def arguments(text: str) -> str:
    """The lines of an `Args:` section as a list."""
    joined = re.sub(r"\n        +", " ", inspect.cleandoc(text))
    return "\n".join(f"- `{line.partition(':')[0]}`: {line.partition(':')[2].strip()}" for line in joined.splitlines() if line) + "\n"


def names(kind: str) -> list[str]:
    """Names of the components of this project, of a kind."""
    return [each.name for each in registry.scan().entries if each.kind == kind and each.distribution.startswith("sbirlib")]


def plural(kind: str) -> str:
    """Plural of a kind, which names its page.

    >>> plural("loss"), plural("miner")
    ('losses', 'miners')
    """
    return kind + ("es" if kind.endswith(("s", "x")) else "s")


def components(kind: str) -> str:
    """All components of a kind, with their options."""
    article = "an" if kind[0] in "aeiou" else "a"
    lines = [
        f"# {plural(kind).capitalize()}\n",
        f"`part('{kind}', NAME, OPTION=...)` makes {article} {kind}; in a recipe it is a table with a `name`.\n",
    ]
    return "\n".join(lines + [component(kind, name) for name in sorted(set(names(kind)))])


def component(kind: str, name: str) -> str:
    """A component: where it comes from, its docstring, and its options."""
    entry = registry.entry(kind, name)
    constructor = getattr(import_module(entry.module), entry.attribute)
    text = (inspect.getdoc(constructor) or "").partition("\nArgs:\n")
    rest = re.sub(r"\A(?:[ \t].*\n?|\n)+", "", text[2])
    about = prose("\n\n".join(filter(None, (text[0].strip(), rest.strip()))), f"{kind} {name}")
    own = [] if name == "pml" else list(options_of(constructor).values())  # whose options are those of the component it adapts
    return f"## {name}\n\n`{constructor.__module__}.{constructor.__qualname__}` ({entry.source})\n\n{about}\n{options(own)}"


def options(declared: Sequence[Option]) -> str:
    """Options as a table; empty without any."""
    if not declared:
        return ""
    rows = [
        [f"`{o.name}`", "filled in, or needed" if o.default is REQUIRED else f"`{o.default!r}`", o.expected, o.meaning] for o in declared
    ]
    return table(("option", "default", "expected", "meaning"), rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def recipes() -> str:
    """The list of recipes, each with its first line."""
    rows = [[f"[{name}](recipes/{name}.md)", purpose(name)] for name in sorted(set(names("recipe")))]
    tree = "\n".join(f"recipes/{name}" for name in sorted(set(names("recipe"))))
    return f"# Recipes\n\n{table(('recipe', 'what it is'), rows)}\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n"


def source_of(name: str) -> str:
    """The TOML text of a recipe."""
    entry = registry.entry("recipe", name)
    return resources.files(entry.module).joinpath(f"{name}.toml").read_text(encoding="utf-8")


def purpose(name: str) -> str:
    """The comment at the head of a recipe's file."""
    comment = re.match(r"(?:#.*\n)+", source_of(name))
    return " ".join(line.lstrip("# ") for line in comment[0].splitlines()) if comment else ""


def recipe(name: str) -> str:
    """A recipe: purpose, needs, results that are stored, and its file."""
    tables = Recipe.of(recipe_file.read(name))
    sampler = tables.sampler.name
    needs = (
        "nothing: it is not trained"
        if not tables.phases
        else "pairs: the instance of each image"
        if sampler in ("pairs", "subtasks")
        else "the class of each image"
    )
    steps = ", ".join(f"{phase.steps:,}" for phase in tables.phases) or "none"
    lines = [
        f"# {name}\n",
        f"{purpose(name)}\n",
        f"- Needs {needs}.",
        f"- Steps by phase: {steps}; images of {tables.transform.options.get('size', '')} px.\n",
    ]
    lines += [f"```sh\nsbirlib train {name} --data my-data --split seed:0 --out runs/{name}\n```\n"] if tables.phases else []
    return "\n".join([*lines, results(name), f"## Its file\n\n```toml\n{source_of(name)}```\n"])


def results(name: str) -> str:
    """Stored results of a recipe on test splits: metric and training time of each row that is made of it."""
    if name not in stored():
        return "No run of it is stored.\n"
    heads = ("data", "row", "metric", "mean", "runs", "training, s (median)")
    note = "With the backbone, size and steps that [the results](../../results.md) state for each table, which are mostly smaller than the recipe's."
    return f"## What it reached here\n\n{note}\n\n{table(heads, stored()[name])}"


@cache
def stored() -> dict[str, list[list[str]]]:
    """Rows of all experiments on test splits, as cells, by their recipes."""
    rows: dict[str, list[list[str]]] = {}
    for experiment in map(definition.read, definition.names()):
        own, metric = finished(runs_of(experiment)) if experiment.final else {}, experiment.metrics[0]
        for row in experiment.rows:
            if row.name in own and not row.intervention:
                runs: Sequence[Run] = own[row.name]
                times = [seconds for run in runs if (seconds := run["seconds"].get("training")) is not None]
                value = f"{mean(run['metrics'][metric] for run in runs):.3f}"
                cells = [experiment.name, row.name, metric, value, str(len(runs)), f"{median(times):.0f}" if times and row.train else ""]
                rows.setdefault(row.recipe, []).append(cells)
    return rows


def command_line() -> str:
    """Every command with its parameters."""
    group: Any = typer.main.get_command(commands)
    return f"# Command line\n\n{group.help}\n\n" + "\n".join(command(name, each) for name, each in group.commands.items())


def command(name: str, value: Any) -> str:
    """A command: what it does, and its parameters."""
    if hasattr(value, "commands"):
        own = command(name, _alone(value)) if value.callback is not None and value.invoke_without_command else ""
        return own + "\n".join(command(f"{name} {inner}", each) for inner, each in value.commands.items())
    if not value.help:
        raise ValueError(f"the command {name} has no docstring: write one")
    rows = [
        [
            f"`{' '.join(p.opts)}`",
            "needed" if p.required else "" if p.default in (None, False) else f"`{p.default}`",
            getattr(p, "help", "") or "",
        ]
        for p in value.params
        if p.name != "help"
    ]
    return f"## {name}\n\n{escaped(value.help)}\n\n{table(('parameter', 'default', 'meaning'), rows) if rows else ''}"


def _alone(group: Any) -> Any:
    """A group as the one command that it is without a subcommand."""
    return type("Command", (), {"help": group.help, "params": group.params})
