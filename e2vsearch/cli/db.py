"""``db`` and ``backup``: the schema, and a copy of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2vsearch.cli.command import command, group
from e2vsearch.cli.facts import CHECKED, checked
from e2vsearch.cli.options import OpenOptions
from e2vsearch.cli.output import Results, size

if TYPE_CHECKING:
    from sqlalchemy import Engine


@command("db upgrade", "db upgrade --index postgresql://user@host/calls")
def upgrade(*, options: OpenOptions, results: Results) -> None:
    """Bring the database to this version's schema; an empty one gets its tables. Back it up first."""
    from e2vsearch.catalog import upgrade
    from e2vsearch.catalog.schema import SCHEMA_REVISION

    with _database(options.index, create=True) as (engine, place):
        before = upgrade.current(engine)
        upgrade.upgrade(engine)
    changed = f"schema {before or 'none'} → {SCHEMA_REVISION}"
    line = f"{place}: {changed if before != SCHEMA_REVISION else f'schema {before}, up to date'}"
    results.write_report({"collection": place, "before": before, "revision": SCHEMA_REVISION}, line)


@command("db current")
def current(*, options: OpenOptions, results: Results) -> None:
    """Show the schema revision of the database."""
    from e2vsearch.catalog import upgrade

    with _database(options.index) as (engine, _):
        revision = upgrade.current(engine)
    results.write_report({"revision": revision}, revision or "none")


@command("db history")
def history(*, options: OpenOptions, results: Results) -> None:
    """List the schema revisions this version knows, and which are applied."""
    from e2vsearch.catalog import upgrade

    with _database(options.index) as (engine, _):
        rows = [asdict(step) for step in upgrade.history(engine)]
    results.write(rows, {"revision": "revision", "applied": "applied", "message": "what it does¶"})


@command("db verify", "db verify --repair")
def verify(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Mend what is certain: vectors by their checksums and the index, dates, indexes. Deletes nothing.",
        ),
    ] = False,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Check every row of the database: pages, keys, change feed, dates, vectors. Exit 1 if something is damaged.

    What pgvector or Milvus hold is compared with it as well. Of FAISS's files, which are no part of it: index verify.
    """
    from e2vsearch.catalog import integrity
    from e2vsearch.catalog import repair as mending

    with options.open() as collection:
        mended = mending.repair(collection.catalog, collection.index.copies) if repair else []
        checks = [*integrity.verify(collection.catalog), collection.playback.verify()]
        checks += filter(None, [collection.index.check()])
    rows = [{"name": "mended", "ok": True, "found": line, "cure": ""} for line in mended] + [asdict(e) for e in checks]
    results.write(rows, CHECKED, table=checked(rows, "DAMAGED"))
    if not all(each.ok for each in checks):
        raise typer.Exit(1)


db = group(
    "db", "The database: its schema, and what is in it checked.", upgrade, current, history, verify, main="current"
)


@command("backup calls.db", "backup copies/catalog.db --index index")
def backup(
    file: Annotated[
        Path,
        typer.Argument(help="A new file. As FOLDER/catalog.db it is the collection --index FOLDER.", metavar="FILE"),
    ],
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Copy the database to one file. Others may read and write meanwhile; what is committed by then is in it."""
    with options.open() as collection:
        written = collection.backup(file)
    results.write_report({"file": file, "size_bytes": written}, f"{size(written)} backed up to {file}")


@contextmanager
def _database(index: str | None, *, create: bool = False) -> Iterator[tuple[Engine, str]]:
    """Connect to a database whose schema may be another version's; yields it with its name."""
    from e2vsearch import settings
    from e2vsearch.catalog.database import connect, is_file, locate, make_folder, reachable, sqlite_file
    from e2vsearch.errors import NoCollection

    place = locate(settings.load(index=index).index)
    if place.folder is not None:
        if create:
            make_folder(place.folder)
        elif not is_file(sqlite_file(place.url) or Path()):
            raise NoCollection(
                f"no collection in {place.named} - make one with: e2vsearch ingest FOLDER --index {place.named}"
            )
    engine = connect(place.url)
    try:
        reachable(engine)
        yield engine, place.named
    finally:
        engine.dispose()
