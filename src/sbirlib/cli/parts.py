"""What is installed, and what a part or a recipe is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sbirlib import registry
from sbirlib.cli.options import table
from sbirlib.errors import InputError


def list_(
    kind: Annotated[str | None, typer.Argument(help=", ".join(registry.GROUPS))] = None,
    pattern: Annotated[str, typer.Argument(help="a wildcard, such as '*hm*'")] = "*",
) -> None:
    """Every part that is installed, by kind; imports none of them."""
    for each in [kind] if kind else registry.GROUPS:
        names = registry.list_parts(each, pattern)
        if names or kind:
            typer.echo(f"{each:10} {'  '.join(names)}" if not kind else "\n".join(names))


def show(name: str) -> None:
    """A recipe whole, or a part with its options and what it does."""
    import inspect

    plain = name.partition(":")[0]
    kinds = [k for k in registry.GROUPS if plain.partition("@")[0] in registry.list_parts(k)]
    if name.endswith(".toml") or "recipe" in kinds:
        from sbirlib import recipe

        typer.echo(json.dumps(recipe.Recipe.of(recipe.read(name)).check().tables(), indent=1))
        kinds = [k for k in kinds if k != "recipe"]
    elif not kinds:
        known = [n for k in registry.GROUPS for n in registry.list_parts(k)]
        from sbirlib.errors import nearest

        raise InputError(f"nothing is named {name!r}{nearest(name, known)}")
    for kind in kinds:
        source = registry.entry(kind, plain).source
        typer.echo(f"{kind} {name} ({source})\n{inspect.getdoc(registry.load(kind, name)) or ''}")
        for option, parameter in registry.options(kind, name).items():
            typer.echo(f"  {parameter}" if parameter.default is not parameter.empty else f"  {option} (filled in, or needed)")


def plugins(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="import each, and say which cannot be used and why")] = False,
) -> None:
    """Which distribution offers which part; `plugins new` writes a new one."""
    if context.invoked_subcommand is not None:
        return
    if check:
        from sbirlib.plugins import states

        rows = states()
        table(("kind", "part", "distribution", "version", "state", "cause"), [[str(v) for v in vars(row).values()] for row in rows])
        if any(row.state != "ok" for row in rows):
            raise typer.Exit(1)
        return
    for found in registry.found().entries:
        typer.echo(f"{found.kind:10} {found.name:20} {found.source:24} {found.module}{':' if found.attribute else ''}{found.attribute}")
    for distribution, cause in registry.found().unreadable:
        typer.echo(f"unreadable: {distribution}: {cause}", err=True)


def new(
    name: Annotated[str, typer.Argument(help="the part's name, such as my_loss; the distribution is then sbirlib-my-loss")],
    kind: Annotated[str, typer.Option(help="encoder, miner, loss, evaluator or recipe")],
    folder: Annotated[Path, typer.Option(help="where the distribution's folder goes")] = Path("."),
) -> None:
    """Write a plugin distribution that can be installed and passes every check, to be changed."""
    from sbirlib.skeleton import new_plugin

    made = new_plugin(name, kind=kind, folder=folder)
    typer.echo(f"{made} offers the {kind} {name}; next: cd {made} && pip install -e . && pytest")
