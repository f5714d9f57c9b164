"""``export`` and ``import``: a collection as plain files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.options import OpenOptions, Where
from e2vsearch.cli.output import Results, counted

if TYPE_CHECKING:
    from e2vsearch.transfer.contents import TransferReport


@command("export calls-2024/", "export segments.parquet --where 'queue = billing'")
def export(
    target: Annotated[
        Path,
        typer.Argument(
            help="A new folder: manifest.json, JSON lines and .npy files; or a .parquet of segments with vectors.",
            metavar="FOLDER|FILE.parquet",
        ),
    ],
    where: Where = None,
    vectors: Annotated[
        Literal["projected", "raw"] | None,
        typer.Option(help="In a .parquet: those that are compared, the default, or the encoder's own."),
    ] = None,
    audio_url: Annotated[
        str | None, typer.Option(help="Where e2vsearch serve answers, for sounds in a .parquet.", metavar="URL")
    ] = None,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Write a collection to plain files. Lossless: policy, vectors, transcripts, labels, classifiers, named vectors.

    A file that ends in .parquet gets a row for each segment, with its vector, for pandas, polars, DuckDB and others.
    """
    given = {"where": where, "vectors": vectors, "audio_url": audio_url}
    with options.open() as collection:
        done = collection.export(target, **{name: value for name, value in given.items() if value is not None})
    results.write_report({"folder": target, **asdict(done)}, f"exported {_counts(done)} to {target}")


@command("import calls-2024/ --index copy")
def import_(
    folder: Annotated[Path, typer.Argument(help="A folder that e2vsearch export wrote.", metavar="FOLDER")],
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Add an export to a collection. It is made if need be; what is stored already stays as it is."""
    from e2vsearch.transfer.contents import read_contents

    contents = read_contents(folder.expanduser().absolute())  # before a collection is made for what is no export
    with options.open(create=True) as collection:
        done = collection.import_(contents)
    already = f", {done.already:,} already there" if done.already else ""
    results.write_report(asdict(done), f"imported {_counts(done)}{already}")
    if done.other_policy:
        results.note(
            "the export's policy differs from this collection's, which stays: compare e2vsearch policy with its "
            "manifest.json"
        )


def _counts(done: TransferReport) -> str:
    found = done.found
    parts = [f"{counted(done.recordings, 'recording')} with {counted(done.segments, 'segment')}"]
    parts += [counted(found.labels, "label")] if found.labels else []
    parts += [counted(found.classifiers, "classifier")] if found.classifiers else []
    parts += (
        [counted(found.named_vectors, "set of named vectors", "sets of named vectors")] if found.named_vectors else []
    )
    return ", ".join(parts)
