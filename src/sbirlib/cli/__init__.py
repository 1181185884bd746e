"""The command line: each verb is one call of the public API."""

import sys

import typer

from sbirlib.cli import data, method, parts, photos
from sbirlib.errors import InputError
from sbirlib.memory import keep_freed_memory

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Sketch-based image retrieval: draw, and the photos you mean come back.",
)
app.command()(method.demo)
app.command("list")(parts.list_)
app.command()(parts.show)
app.command()(method.train)
app.command("eval")(method.eval_)
app.command()(method.classify)
app.command()(method.ensemble)
for verb in (photos.encode, photos.index, photos.add, photos.remove, photos.search):
    app.command()(verb)

plugins_app = typer.Typer(add_completion=False)
plugins_app.callback(invoke_without_command=True)(parts.plugins)
plugins_app.command()(parts.new)
app.add_typer(plugins_app, name="plugins")

data_app = typer.Typer(add_completion=False, no_args_is_help=True, help="Look at a dataset before anything trains on it.")
data_app.command()(data.check)
app.add_typer(data_app, name="data")


def main() -> None:
    """Run a command, with freed memory kept for the next batch; wrong input is one line on stderr, without a traceback."""
    keep_freed_memory()
    try:
        app()
    except InputError as error:
        print(f"sbirlib: {error}", file=sys.stderr)
        sys.exit(2)
