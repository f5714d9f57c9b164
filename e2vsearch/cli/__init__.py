"""The command line: parse, call one method, print. Results go to stdout, everything else to stderr.

Exit codes: 0 fine, 1 an error (one line with its cure), 2 wrong usage, 3 finished but some files failed,
130 interrupted and safe to run again.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NoReturn

import typer

from e2vsearch.cli.command import Command, Group, PlainGroup
from e2vsearch.cli.logs import use_text_of_logs
from e2vsearch.cli.text import shown
from e2vsearch.errors import AudioNotAFile, AudioNotFound, E2vsearchError, QueryError, SettingsError, UnknownEncoder

__all__ = ["app", "app_of", "main"]

_PANELS: Mapping[str, Sequence[str]] = {
    "Start": ("demo.demo",),
    "Search": ("query.query", "calls.calls", "show.show", "calls.clip", "compare.compare"),
    "Fill": (
        "ingest.ingest",
        "worker.worker",
        "worker.queue",
        "collection.failures",
        "collection.remove",
        "erasure.forget",
    ),
    "Understand": (
        "trends.trends",
        "maps.map_",
        "labels.label",
        "classifiers.train",
        "classifiers.classify",
        "classifiers.classifier",
    ),
    "Serve": ("serve.serve", "mcp.mcp"),
    "Keep": (
        "collection.status",
        "collection.doctor",
        "plugins.encoders",
        "plugins.plugins",
        "policy.policy",
        "policy.audit",
        "erasure.about",
        "spaces.reembed",
        "db.backup",
        "transfer.export",
        "transfer.import_",
    ),
    "Advanced": (
        "index.index",
        "db.db",
        "projections.projection",
        "named_vectors.vectors",
        "embed.embed",
        "evaluate.evaluate",
    ),
}
"""Commands and groups, as modules of this room and names in them, in panels of the help."""


def _typed(where: str) -> str:
    """Return the word that is typed for a command: ``import`` for ``transfer.import_``."""
    return where.partition(".")[2].rstrip("_")


class _Commands(PlainGroup):
    order = tuple(_typed(each) for commands in _PANELS.values() for each in commands)


WRONG_USAGE = 2
"""Exit code of what was typed wrong: an option, a filter, an id or a file that is not there."""

_USAGE = (QueryError, SettingsError, UnknownEncoder, AudioNotFound, AudioNotAFile)


def app_of(word: str | None = None) -> typer.Typer:
    """Return the command line, or as much of it as the first word typed needs.

    A command that is named needs itself alone; help, completion and what is mistyped need all. Declaring all 59 takes
    as long as `import numpy`.
    """
    app = typer.Typer(
        name="e2vsearch",
        help="Find the recordings, and the segments in them, that feel like a reference clip.",
        cls=_Commands,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help comes 0.1 s sooner, and can be piped
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="\b\nExamples:\n  e2vsearch ingest calls/\n  e2vsearch query angry.wav -k 20",
    )
    for panel, commands in _PANELS.items():
        for each in commands:
            if word not in _Commands.order or word == _typed(each):
                module, _, name = each.partition(".")
                command: Command | Group = getattr(import_module(f"{__name__}.{module}"), name)
                command.add_to(app, panel)
    app.callback(invoke_without_command=True)(_version)
    return app


def __getattr__(name: str) -> typer.Typer:
    if name != "app":
        raise AttributeError(name)
    globals()[name] = app = app_of()
    return app


def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from e2vsearch._version import __version__
        from e2vsearch.files import responsible_use

        typer.echo(f"e2vsearch {__version__}")
        typer.echo(f"responsible use: {responsible_use() or 'RESPONSIBLE-USE.md, beside the README'}")
        raise typer.Exit


def main() -> None:
    """Run the command line; errors become one line on stderr."""
    use_text_of_logs()
    gc.set_threshold(100_000)  # imports make objects that stay: collecting among them took a tenth of a query
    atexit.register(gc.freeze)  # and so did looking through them once more at the end, for cycles in what goes anyway
    try:
        app_of(sys.argv[1] if len(sys.argv) > 1 else None)()
    except E2vsearchError as error:
        _fail(str(error), WRONG_USAGE if isinstance(error, _USAGE) else 1)
    except KeyboardInterrupt:
        _end_interrupted()
    except SystemExit as end:
        if isinstance(end.__context__, Exception) and isinstance(end.__context__.__cause__, KeyboardInterrupt):
            _end_interrupted()  # Typer ends without a word
        raise
    except OSError as error:
        if error.filename is None:
            _fail(f"{error.strerror or error} - check the disk, its space and its permissions")
        _fail(f"{os.fsdecode(error.filename)}: {error.strerror} - check the path, its permissions and the space there")
    except Exception as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # extension modules turn it into an ImportError of theirs
            _end_interrupted()
        if type(error).__module__.startswith("sqlalchemy"):
            _fail(f"the database: {str(error).partition(chr(10))[0]} - e2vsearch doctor checks it")
        _fail(f"unexpected {type(error).__name__}: {error} - E2VSEARCH_DEBUG=1 shows where; please report it")


def _end_interrupted() -> NoReturn:
    from e2vsearch.cli.output import INTERRUPTED

    typer.echo("interrupted - it is safe to run it again", err=True)
    sys.exit(INTERRUPTED)


def _fail(message: str, code: int = 1) -> None:
    if os.environ.get("E2VSEARCH_DEBUG"):
        raise
    typer.echo(f"e2vsearch: {shown(' '.join(message.split()))}", err=True)
    sys.exit(code)
