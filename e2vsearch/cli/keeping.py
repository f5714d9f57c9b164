"""``index``, ``db``, ``backup``, ``export``, ``import``, ``doctor``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2vsearch.cli.adding import FACTS, fact_rows, index_facts
from e2vsearch.cli.options import Index, Kind, Output, OutputFormat, Quiet
from e2vsearch.cli.output import note, size, write

if TYPE_CHECKING:
    from e2vsearch.collection.transfer import Transferred

index_app = typer.Typer(help="The vector index: build, look at, verify.", no_args_is_help=True)
db_app = typer.Typer(help="The database's schema: upgrade, current, history.", no_args_is_help=True)


Recall = Annotated[
    float | None,
    typer.Option(
        help="Share of the exact top 20 that must be found, kept for later builds too.  [default: as before, 0.95 at "
        "first]",
        min=0.01,
        max=1.0,
        show_default=False,
    ),
]


@index_app.command("build")
def index_build(
    index: Index = None,
    kind: Annotated[
        Kind | None,
        typer.Option(
            help="auto is exact up to 20,000 segments, ivf-rabitq above; gpu needs faiss-gpu. Kept for later builds.  "
            "[default: as before, auto at first]",
            show_default=False,
        ),
    ] = None,
    recall: Recall = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Make new lists, also where those of the last build would do.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Build a new generation of the index. It is done by itself when due; queries go on meanwhile."""
    import e2vsearch

    with e2vsearch.open(index, create=False) as collection:
        manifest = collection.build(kind.value if kind is not None else None, recall=recall, retrain=retrain)
        facts = index_facts(asdict(collection.index().status()))
    write([asdict(manifest)], format_=None, columns=FACTS, table=fact_rows(facts))
    note("built", quiet=quiet)


@index_app.command("tune")
def index_tune(index: Index = None, recall: Recall = None, quiet: Quiet = False) -> None:
    """Measure recall again, on the last queries too, and choose how many lists to visit. Builds nothing."""
    import e2vsearch

    with e2vsearch.open(index, create=False) as collection:
        tuned = collection.index().tune(recall)
        facts = index_facts(asdict(collection.index().status()))
    write([asdict(tuned)], format_=None, columns=FACTS, table=fact_rows(facts))
    note("tuned", quiet=quiet)


@index_app.command("status")
def index_status(
    index: Index = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure recall now; reads every vector of the index once.")
    ] = False,
    format_: OutputFormat = None,
    output: Output = None,
) -> None:
    """What the index is made of, its measured recall, how stale it is, and whether a build is due."""
    import e2vsearch

    with e2vsearch.open(index, create=False) as collection:
        state = asdict(collection.index().status(measure=measure))
    write([state], format_=format_, output=output, columns=FACTS, table=fact_rows(index_facts(state)), whole=state)


@index_app.command("drop")
def index_drop(
    index: Index = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    quiet: Quiet = False,
) -> None:
    """Remove the index and the queries kept beside it. No recording is lost, and the next build makes it again."""
    import e2vsearch

    with e2vsearch.open(index, create=False) as collection:
        if not yes:
            typer.confirm(f"Remove the index of {collection.place.named}?", abort=True, err=True)
        dropped = collection.index().drop()
    note(f"dropped {dropped} generations" if dropped else "there was no index", quiet=quiet)


@index_app.command("verify")
def index_verify(index: Index = None) -> None:
    """Check the index on disk against the database: checksums, ids, vectors, recall. Exit 1 if something is wrong."""
    import e2vsearch

    with e2vsearch.open(index, create=False) as collection:
        problems = collection.index().verify()
    for problem in problems:
        typer.echo(problem)
    if problems:
        note("nothing is lost: search goes on exactly, and this rebuilds it: e2vsearch index build")
        raise typer.Exit(1)
    typer.echo("sound")


@db_app.command("upgrade")
def db_upgrade(index: Index = None) -> None:
    """Bring the database to this version's schema; an empty one gets its tables. Back it up first."""
    from e2vsearch.catalog import SCHEMA_REVISION, upgrade

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


def export(
    folder: Annotated[Path, typer.Argument(help="A new folder: manifest.json, JSON lines and .npy files.")],
    index: Index = None,
    quiet: Quiet = False,
) -> None:
    """Write a whole collection to plain files, lossless: vectors, transcripts, labels, classifiers, side vectors."""
    import e2vsearch
    from e2vsearch.collection import transfer

    with e2vsearch.open(index, create=False) as collection:
        done = transfer.export(collection.catalog, folder.expanduser().absolute())
    note(f"exported {_went_over(done)} to {folder}", quiet=quiet)


def import_(
    folder: Annotated[Path, typer.Argument(help="A folder that e2vsearch export wrote.")],
    index: Index = None,
    quiet: Quiet = False,
) -> None:
    """Add everything from an export to a collection, made if need be. What is stored already stays as it is."""
    import e2vsearch
    from e2vsearch.collection import transfer

    transfer.read_space(folder)  # before a collection is made for something that is no export
    with e2vsearch.open(index) as collection:
        done = transfer.load(collection.catalog, folder.expanduser().absolute())
        collection.maintain()
    already = f", {done.already:,} already there" if done.already else ""
    note(f"imported {_went_over(done)}{already}", quiet=quiet)


def _went_over(done: Transferred) -> str:
    found = [
        f"{count:,} {name}"
        for count, name in (
            (done.found.labels, "labels"),
            (done.found.classifiers, "classifiers"),
            (done.found.sides, "sets of side vectors"),
        )
        if count
    ]
    return ", ".join([f"{done.recordings:,} recordings with {done.segments:,} segments", *found])


def doctor(index: Index = None, format_: OutputFormat = None) -> None:
    """Check versions, encoders, speech detection, database and index. Each lack has its cure; exit 1 if one matters."""
    from e2vsearch.collection.checkup import examine

    findings = examine(index)
    rows = [asdict(finding) for finding in findings]
    table = [{**row, "state": "ok" if row["ok"] else "LACKS" if row["needed"] else "without"} for row in rows]
    columns = {"name": "what", "state": "state", "found": "found", "cure": "cure"}
    write(rows, format_=format_, columns=columns, table=table)
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(1)


def _engine(index: str | None, *, create: bool = False):  # type: ignore[no-untyped-def]
    from e2vsearch import settings
    from e2vsearch.catalog.database import connect, reachable, sqlite_file
    from e2vsearch.collection.places import locate
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
