"""``db`` and ``backup``: the schema, and a copy of the database."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2vsearch.cli.options import Index, OutputFormat, Quiet
from e2vsearch.cli.output import note, size, write

if TYPE_CHECKING:
    pass


db_app = typer.Typer(help="The database's schema: upgrade, current, history.", no_args_is_help=True)


@db_app.command("upgrade")
def db_upgrade(index: Index = None) -> None:
    """Bring the database to this version's schema; an empty one gets its tables. Back it up first."""
    from e2vsearch.catalog import upgrade
    from e2vsearch.catalog.schema import SCHEMA_REVISION

    engine, place = _engine(index, create=True)
    before = upgrade.current(engine)
    upgrade.upgrade(engine)
    typer.echo(
        f"{place}: schema {before or 'none'} → {SCHEMA_REVISION}"
        if before != SCHEMA_REVISION
        else f"{place}: schema {before}, up to date"
    )
    engine.dispose()


@db_app.command("current")
def db_current(index: Index = None) -> None:
    """The schema revision of the database."""
    from e2vsearch.catalog import upgrade

    engine, _ = _engine(index)
    typer.echo(upgrade.current(engine) or "none")
    engine.dispose()


@db_app.command("history")
def db_history(index: Index = None, format_: OutputFormat = None) -> None:
    """Every schema revision this version knows, and which are applied."""
    from e2vsearch.catalog import upgrade

    engine, _ = _engine(index)
    rows = [asdict(step) for step in upgrade.history(engine)]
    write(rows, format_=format_, columns={"revision": "revision", "applied": "applied", "message": "what it does"})
    engine.dispose()


def backup(
    file: Annotated[Path, typer.Argument(help="A new file. As FOLDER/catalog.db it is the collection --index FOLDER.")],
    index: Index = None,
    quiet: Quiet = False,
) -> None:
    """Copy the database to one file while others read and write it; what is committed by then is in it."""
    import e2vsearch

    with e2vsearch.open(index, create=False) as collection:
        written = collection.backup(file)
    note(f"{size(written)} backed up to {file}", quiet=quiet)


def _engine(index: str | None, *, create: bool = False):  # type: ignore[no-untyped-def]
    from e2vsearch import settings
    from e2vsearch.catalog.database import connect, locate, reachable, sqlite_file
    from e2vsearch.errors import NoCollection

    place = locate(settings.load(index=index).index)
    if place.folder is not None:
        if create:
            place.folder.mkdir(parents=True, exist_ok=True)
        elif not (sqlite_file(place.url) or Path()).is_file():
            raise NoCollection(
                f"no collection in {place.named} - make one with: e2vsearch ingest FOLDER --index {place.named}"
            )
    engine = connect(place.url)
    reachable(engine)
    return engine, place.named
