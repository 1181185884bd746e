"""Commands that list, show and check components and plugins."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from sbirlib import registry
from sbirlib.cli.options import table
from sbirlib.errors import InputError, nearest


def list_(
    kind: Annotated[str | None, typer.Argument(help=", ".join(registry.GROUPS))] = None,
    pattern: Annotated[str, typer.Argument(help="a wildcard, such as '*hm*'")] = "*",
) -> None:
    """Print every installed component, by kind; imports none of them."""
    for each in [kind] if kind else registry.GROUPS:
        names = registry.list_parts(each, pattern)
        if names or kind:
            typer.echo(f"{each:10} {'  '.join(names)}" if not kind else "\n".join(names))


def show(
    name: Annotated[str, typer.Argument(help="a recipe, a TOML file, or a component")],
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON Schema of recipe files, or of the component's table")] = False,
) -> None:
    """Print a recipe in full, or a component: each option with its type, range, default and meaning."""
    plain = name.partition(":")[0]
    word, at, distribution = plain.partition("@")
    offers = {(e.kind, e.name): e.distribution for e in registry.scan().entries if not at or e.distribution == distribution.lower()}
    kinds = [k for k in registry.GROUPS if (k, word) in offers]
    if name.endswith(".toml") or "recipe" in kinds:
        _show_recipe(name, schema)
        kinds = [k for k in kinds if k != "recipe"]
    elif not kinds:
        raise InputError(f"nothing is called {name!r}{nearest(name, [n for k in registry.GROUPS for n in registry.list_parts(k)])}")
    for kind in kinds:
        _show_component(kind, name, schema)


def _show_recipe(name: str, schema: bool) -> None:
    from sbirlib.recipe import Recipe
    from sbirlib.recipe_file import read
    from sbirlib.schema import recipe_schema

    recipe = Recipe.of(read(name))
    typer.echo(json.dumps(recipe_schema() if schema else recipe.tables(), indent=1))


def _show_component(kind: str, name: str, schema: bool) -> None:
    import inspect

    from sbirlib.options import REQUIRED, options_of

    if schema:
        from sbirlib.schema import component_schema

        typer.echo(json.dumps(component_schema(kind, name), indent=1))
        return
    constructor = registry.load(kind, name)
    text = (inspect.getdoc(constructor) or "").partition("\nArgs:\n")
    rest = re.sub(r"\A(?:[ \t].*\n?|\n)+", "", text[2])
    source = registry.entry(kind, name.partition(":")[0]).source
    typer.echo("\n\n".join(filter(None, (f"{kind} {name} ({source})", text[0].strip(), rest.strip()))))
    rows = [
        [o.name, "filled in, or needed" if o.default is REQUIRED else repr(o.default), o.expected, o.meaning]
        for o in options_of(constructor).values()
    ]
    if rows:
        typer.echo("")
        table(("option", "default", "expected", "meaning"), rows)


def plugins(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="import each, and say which cannot be used and why")] = False,
) -> None:
    """Print the components of each distribution; `plugins new` writes a new one."""
    if context.invoked_subcommand is not None:
        return
    if check:
        from sbirlib.plugins import states

        rows = states()
        table(("kind", "name", "distribution", "version", "state", "cause"), [[str(v) for v in vars(row).values()] for row in rows])
        if any(row.state != "ok" for row in rows):
            raise typer.Exit(1)
        return
    for entry in registry.scan().entries:
        typer.echo(f"{entry.kind:10} {entry.name:20} {entry.source:24} {entry.module}{':' if entry.attribute else ''}{entry.attribute}")
    for distribution, cause in registry.scan().unreadable:
        typer.echo(f"unreadable: {distribution}: {cause}", err=True)


def new(
    name: Annotated[str, typer.Argument(help="the name of the component, such as my_loss; the distribution is then sbirlib-my-loss")],
    kind: Annotated[str, typer.Option(help="encoder, miner, loss, evaluator or recipe")],
    folder: Annotated[Path, typer.Option(help="where the distribution's folder goes")] = Path("."),
) -> None:
    """Write a plugin distribution that can be installed and passes every check, to be changed."""
    from sbirlib.skeleton import new_plugin

    root = new_plugin(name, kind=kind, folder=folder)
    typer.echo(f"{root} offers the {kind} {name}; next: cd {root} && pip install -e . && pytest")
