"""The command line: parse, call one function, print. Results go to stdout, everything else to stderr.

Exit codes: 0 fine, 1 an error (one line with its cure), 2 wrong usage, 3 finished but some files failed,
130 interrupted and safe to run again.
"""

from __future__ import annotations

import gc
import os
import sys

import typer

from e2vsearch.cli import (
    adding,
    agents,
    asking,
    attaching,
    evaluating,
    keeping,
    labelling,
    mapping,
    serving,
    spaces,
    working,
)
from e2vsearch.errors import E2vsearchError

__all__ = ["app", "main"]

app = typer.Typer(
    name="e2vsearch",
    help="Find the calls, and the moments in them, that feel like a reference clip.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help comes 0.1 s sooner, and can be piped
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.add_typer(keeping.index_app, name="index")
app.add_typer(keeping.db_app, name="db")
app.add_typer(spaces.space_app, name="space")
app.add_typer(working.queue_app, name="queue")
app.command()(adding.ingest)
app.command()(working.worker)
app.command()(asking.query)
app.command()(asking.compare)
app.command()(asking.embed)
app.command("map")(mapping.map_)
app.command()(labelling.label)
app.command()(labelling.train)
app.command()(labelling.classify)
app.command()(evaluating.evaluate)
app.command()(adding.status)
app.command()(adding.failures)
app.command()(adding.remove)
app.command()(attaching.attach)
app.command()(attaching.sides)
app.command()(attaching.detach)
app.command()(keeping.backup)
app.command()(keeping.export)
app.command("import")(keeping.import_)
app.command()(keeping.doctor)
app.command()(serving.serve)
app.command()(agents.mcp)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from e2vsearch import __version__

        typer.echo(f"e2vsearch {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; errors become one line on stderr."""
    gc.set_threshold(100_000)  # imports make objects that stay: collecting among them took a tenth of a query
    try:
        app()
    except E2vsearchError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        typer.echo("interrupted - it is safe to run it again", err=True)
        sys.exit(130)
    except Exception as error:
        if type(error).__module__.startswith("sqlalchemy"):
            _fail(f"the database said: {str(error).partition(chr(10))[0]} - e2vsearch doctor checks it")
        _fail(f"unexpected {type(error).__name__}: {error} - E2VSEARCH_DEBUG=1 shows where; please report it")


def _fail(message: str) -> None:
    if os.environ.get("E2VSEARCH_DEBUG"):
        raise
    typer.echo(f"e2vsearch: {' '.join(message.split())}", err=True)
    sys.exit(1)
