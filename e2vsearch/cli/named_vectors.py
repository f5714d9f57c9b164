"""``vectors``: other models' vectors on segments, which ``query --named-vector`` weighs in."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from e2vsearch.cli.command import command, group
from e2vsearch.cli.options import OpenOptions
from e2vsearch.cli.output import Results, counted

_Name = Annotated[str, typer.Argument(help="What the vectors are called, e.g. text.", metavar="NAME")]


@command("vectors attach text text.npy --ids ids.txt", "vectors attach text text.parquet")
def attach(
    name: _Name,
    file: Annotated[
        Path,
        typer.Argument(help=".npy with a row a segment, or .parquet with columns segment and vector.", metavar="FILE"),
    ],
    ids: Annotated[
        Path | None,
        typer.Option(
            help="The segments of the rows of an .npy: a text with one id a line (seg:12), or an .npy of numbers."
        ),
    ] = None,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Attach vectors of another model to segments; those that a segment has under this name are replaced."""
    from e2vsearch.transfer import vector_files

    numbers, vectors = vector_files.read(file.expanduser(), None if ids is None else ids.expanduser())
    with options.open() as collection:
        found = collection.named_vectors.attach(name, numbers, vectors)
    now = f"{found.name} is now on {found.segments:,}, {found.dim}-d"
    use = f"e2vsearch query REFERENCE --named-vector {found.name}=0.5"
    line = f"attached {counted(len(numbers), 'vector')}: {now} - {use}"
    results.write_report({"attached": len(numbers), **asdict(found)}, line)


@command("vectors list")
def list_(*, options: OpenOptions, results: Results) -> None:
    """List the named vectors of a collection."""
    with options.open() as collection:
        rows = [asdict(each) for each in collection.named_vectors.list()]
    table = [{**row, "created_at": f"{row['created_at']:%Y-%m-%d %H:%M}"} for row in rows]
    columns = {"name": "name~", "dim": "dim>", "segments": "segments>", "created_at": "since (UTC)"}
    none = "no named vectors - add some with: e2vsearch vectors attach NAME FILE"
    results.write_rows(rows, columns, none=none, table=table)


@command("vectors detach text")
def detach(name: _Name, *, options: OpenOptions, results: Results) -> None:
    """Delete named vectors; the segments stay."""
    with options.open() as collection:
        dropped = collection.named_vectors.detach(name)
    results.write_report(
        {"name": name, "segments": dropped}, f"dropped {name}, which {counted(dropped, 'segment')} had"
    )


vectors = group("vectors", "Other models' vectors on segments.", attach, list_, detach, main="list")
