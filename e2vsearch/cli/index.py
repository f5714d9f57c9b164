"""``index``: build, tune, status, drop and verify."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from e2vsearch.cli.command import command, group
from e2vsearch.cli.facts import index_facts
from e2vsearch.cli.options import EngineName, EngineUrl, OpenOptions, Yes
from e2vsearch.cli.output import Results, counted

Kind = Literal["auto", "flat", "ivf-flat", "ivf-rabitq", "gpu", "hnsw", "ivf-sq8"]
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


@command("index build", "index build --kind ivf-rabitq --recall 0.98")
def build(
    kind: Annotated[
        Kind | None,
        typer.Option(
            help="auto is exact up to 20,000 segments, ivf-rabitq above; gpu needs faiss-gpu. pgvector has flat, hnsw "
            "and ivf-flat, Milvus these and ivf-sq8 and, from 2.6 on, ivf-rabitq. Kept for later builds.  "
            "[default: as before, auto at first]",
            show_default=False,
        ),
    ] = None,
    recall: Recall = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train new lists, also where those of the last build would do.")
    ] = False,
    engine: EngineName = None,
    engine_url: EngineUrl = None,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Build the index. It is built in the background when due; queries go on meanwhile.

    With --engine it is built in another engine, which is used from then on; what the former one held is deleted.
    """
    with options.open() as collection:
        manifest = collection.index.build(
            kind, recall=recall, retrain=retrain, engine=engine, engine_url=engine_url or ""
        )
        facts = index_facts(asdict(collection.index.status()))
    results.write_facts(asdict(manifest), facts)


@command("index tune", "index tune --recall 0.98")
def tune(recall: Recall = None, *, options: OpenOptions, results: Results) -> None:
    """Measure recall again, on the last queries too, and choose how many lists to visit. Builds nothing."""
    with options.open() as collection:
        tuned = collection.index.tune(recall)
        facts = index_facts(asdict(collection.index.status()))
    results.write_facts(asdict(tuned), facts)


@command("index status", "index status --measure --format json")
def status(
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure recall now; reads every vector of the index once.")
    ] = False,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Show what the index is made of, its measured recall, how stale it is, and whether a build is due."""
    with options.open() as collection:
        state = asdict(collection.index.status(measure=measure))
    results.write_facts(state, index_facts(state))


@command("index drop", "index drop --yes")
def drop(yes: Yes = False, *, options: OpenOptions, results: Results) -> None:
    """Remove the index and the queries kept beside it. No recording is lost, and the next build makes it again."""
    with options.open() as collection:
        if not yes:
            typer.confirm(f"Remove the index of {collection.location.named}?", abort=True, err=True)
        dropped = collection.index.drop()
    line = f"dropped {counted(dropped, 'generation')}" if dropped else "there was no index"
    results.write_report({"generations": dropped}, line)


@command("index verify", "index verify --format json")
def verify(*, options: OpenOptions, results: Results) -> None:
    """Check the index against the database: checksums, ids, vectors, recall. Exit 1 if something is wrong."""
    with options.open() as collection:
        problems = collection.index.verify()
    results.write_report({"intact": not problems, "problems": problems}, "\n".join(problems) or "intact")
    if problems:
        results.note("nothing is lost: search goes on exactly, and this rebuilds it: e2vsearch index build")
        raise typer.Exit(1)


index = group("index", "The vector index: build, measure, verify.", build, tune, status, drop, verify, main="status")
