"""``export`` and ``import``: a collection as plain files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.options import OpenOptions, Quiet
from e2vsearch.cli.output import note

if TYPE_CHECKING:
    from e2vsearch.transfer.contents import TransferReport


@command("export calls-2024/")
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder: manifest.json, JSON lines and .npy files.")],
    *,
    options: OpenOptions,
    quiet: Quiet = False,
) -> None:
    """Write a collection to plain files. Lossless: policy, vectors, transcripts, labels, classifiers, named vectors."""
    with options.open() as collection:
        done = collection.export(folder)
    note(f"exported {_counts(done)} to {folder}", quiet=quiet)


@command("import calls-2024/ --index copy")
def import_(
    folder: Annotated[Path, typer.Argument(help="A folder that e2vsearch export wrote.")],
    *,
    options: OpenOptions,
    quiet: Quiet = False,
) -> None:
    """Add an export to a collection. It is made if need be; what is stored already stays as it is."""
    from e2vsearch.transfer.contents import read_contents

    contents = read_contents(folder.expanduser().absolute())  # before a collection is made for what is no export
    with options.open(create=True) as collection:
        done = collection.import_(contents)
    already = f", {done.already:,} already there" if done.already else ""
    note(f"imported {_counts(done)}{already}", quiet=quiet)
    if done.other_policy:
        note(
            "the export's policy differs from this collection's, which stays: compare e2vsearch policy with its "
            "manifest.json",
            quiet=quiet,
        )


def _counts(done: TransferReport) -> str:
    found = (
        (done.found.labels, "labels"),
        (done.found.classifiers, "classifiers"),
        (done.found.named_vectors, "sets of named vectors"),
    )
    counts = [f"{count:,} {name}" for count, name in found if count]
    return ", ".join([f"{done.recordings:,} recordings with {done.segments:,} segments", *counts])
