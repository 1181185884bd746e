"""Command line: each command is one call of the public API."""

import logging
import os
import platform
import sys
import traceback
from importlib import metadata
from typing import Annotated

import typer
from tqdm import tqdm

from sbirlib.cli import adapt, components, data, exchange, method, pack, photos, runs, saved, serve
from sbirlib.errors import InputError, printable
from sbirlib.memory import keep_freed_memory
from sbirlib.processes import fail, join, launched, leave_together, lost, world_size

LONGEST = 20_000  # characters of a message
# commands that write files which processes would write over each other
ALONE = ("add", "remove", "sync", "upgrade", "pack", "plugins", "serve", "export", "push")
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(method.demo)
app.command("list")(components.list_)
app.command()(components.show)
app.command()(method.train)
app.command("eval")(method.eval_)
app.command()(method.classify)
app.command()(method.ensemble)
app.command()(runs.compare)
app.command("tune-lr")(runs.tune_lr)
app.command()(runs.profile)
for verb in (photos.encode, photos.index, photos.add, photos.remove, photos.sync, photos.search, saved.verify, saved.upgrade):
    app.command()(verb)
app.command()(pack.pack)
app.command()(serve.serve)
app.command()(adapt.adapt)
app.command()(exchange.export)
app.command()(exchange.push)

plugins_app = typer.Typer(add_completion=False)
plugins_app.callback(invoke_without_command=True)(components.plugins)
plugins_app.command()(components.new)
app.add_typer(plugins_app, name="plugins")

data_app = typer.Typer(add_completion=False, no_args_is_help=True, help="Look at a dataset before anything trains on it.")
data_app.command()(data.check)
app.add_typer(data_app, name="data")


def print_version(wanted: bool) -> None:
    """Print the versions that a report needs, and end."""
    if wanted:
        names = ("sbirlib", "torch", "timm", "faiss-cpu", "numpy")
        print(
            ", ".join(f"{name} {metadata.version(name)}" for name in names) + f"; Python {platform.python_version()}, {platform.platform()}"
        )
        raise typer.Exit


@app.callback()
def command_line(
    version: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print versions, and end.")] = False,
) -> None:
    """Sketch-based image retrieval: draw, and the photos you mean come back."""


def main() -> None:
    """Run a command, with freed memory kept for the next batch; wrong input is one message on stderr, without a traceback.

    Of several processes rank 0 prints, and the first that fails says why.
    """
    keep_freed_memory()
    _log_on_stderr()
    try:
        if launched()[0] > 0:
            sys.stdout = open(os.devnull, "w", encoding="utf-8")
            logging.getLogger("sbirlib").setLevel(logging.ERROR)
        join()
        if world_size() > 1 and sys.argv[1:2] and sys.argv[1] in ALONE:
            raise InputError(f"{sys.argv[1]} works in one process: run it without torchrun")
        app()
    except SystemExit as end:
        if not end.code:
            leave_together()
        raise
    except InputError as error:
        fail(error, f"sbirlib: {printable(str(error)[:LONGEST], lines=True)}")
        sys.exit(2)
    except Exception as error:
        if world_size() == 1:
            raise
        if lost(error):
            fail(error, "sbirlib: another process has ended without a message, and with it this run")
        else:
            fail(error, "".join(traceback.format_exception(error)).rstrip())
        sys.exit(1)


class _Stderr(logging.Handler):
    """One line on stderr for each record, above a progress bar where there is one; in one write, so that processes do not split each other's."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(f"sbirlib: {printable(record.getMessage()[:LONGEST], lines=True)}\n", file=sys.stderr, end="")


def _log_on_stderr() -> None:
    logger = logging.getLogger("sbirlib")
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        logger.addHandler(_Stderr())
        logger.setLevel(logging.INFO)
