"""``index``: build, tune, status, drop and verify."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from e2vsearch.cli.options import Index, Kind, Output, OutputFormat, Quiet
from e2vsearch.cli.output import FACTS, fact_rows, index_facts, note, write

if TYPE_CHECKING:
    pass


index_app = typer.Typer(help="The vector index: build, look at, verify.", no_args_is_help=True)

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
        manifest = collection.index.build(kind.value if kind is not None else None, recall=recall, retrain=retrain)
        facts = index_facts(asdict(collection.index.engine.status()))
    write([asdict(manifest)], format_=None, columns=FACTS, table=fact_rows(facts))
    note("built", quiet=quiet)


@index_app.command("tune")
def index_tune(index: Index = None, recall: Recall = None, quiet: Quiet = False) -> None:
    """Measure recall again, on the last queries too, and choose how many lists to visit. Builds nothing."""
    import e2vsearch

    with e2vsearch.open(index, create=False) as collection:
        tuned = collection.index.engine.tune(recall)
        facts = index_facts(asdict(collection.index.engine.status()))
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
        state = asdict(collection.index.engine.status(measure=measure))
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
            typer.confirm(f"Remove the index of {collection.location.named}?", abort=True, err=True)
        dropped = collection.index.engine.drop()
    note(f"dropped {dropped} generations" if dropped else "there was no index", quiet=quiet)


@index_app.command("verify")
def index_verify(index: Index = None) -> None:
    """Check the index on disk against the database: checksums, ids, vectors, recall. Exit 1 if something is wrong."""
    import e2vsearch

    with e2vsearch.open(index, create=False) as collection:
        problems = collection.index.engine.verify()
    for problem in problems:
        typer.echo(problem)
    if problems:
        note("nothing is lost: search goes on exactly, and this rebuilds it: e2vsearch index build")
        raise typer.Exit(1)
    typer.echo("sound")
