"""``attach``, ``sides``, ``detach``: side vectors, which ``query --fuse`` combines with the emotion's."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from e2vsearch.cli.options import Format, Index, Output, OutputFormat, Quiet
from e2vsearch.cli.output import chosen, note, write

_Name = Annotated[str, typer.Argument(help="What the vectors are called, e.g. text.", metavar="NAME")]


def attach(
    name: _Name,
    file: Annotated[
        Path, typer.Argument(help=".npy with a row a segment, or .parquet with columns segment and vector.")
    ],
    ids: Annotated[
        Path | None,
        typer.Option(help="Whose the rows of an .npy are: a text with one id a line (seg:12), or an .npy of numbers."),
    ] = None,
    index: Index = None,
    quiet: Quiet = False,
) -> None:
    """Attach side vectors, any model's, to segments; those that a segment has under this name are replaced."""
    import e2vsearch
    from e2vsearch.transfer import vector_files

    numbers, vectors = vector_files.read(file.expanduser(), None if ids is None else ids.expanduser())
    with e2vsearch.open(index, create=False) as collection:
        side = collection.named_vectors.attach(name, numbers, vectors)
    now = f"{side.name} is now on {side.segments:,}, {side.dim}-d"
    note(f"attached {len(numbers):,} vectors: {now} - e2vsearch query REFERENCE --fuse {side.name}=0.5", quiet=quiet)


def sides(index: Index = None, format_: OutputFormat = None, output: Output = None) -> None:
    """The side vectors that a collection has."""
    import e2vsearch

    with e2vsearch.open(index, create=False) as collection:
        rows = [asdict(side) for side in collection.named_vectors.list()]
    if not rows and chosen(format_, output) is Format.table:
        note("no side vectors - add some with: e2vsearch attach NAME FILE")
        return
    columns = {"name": "name", "dim": "dim>", "segments": "segments>", "created_at": "since"}
    write(rows, format_=format_, output=output, columns=columns)


def detach(name: _Name, index: Index = None, quiet: Quiet = False) -> None:
    """Drop side vectors; the segments stay."""
    import e2vsearch

    with e2vsearch.open(index, create=False) as collection:
        dropped = collection.named_vectors.detach(name)
    note(f"dropped {name}, which {dropped:,} segments had", quiet=quiet)
