"""``export`` and ``import``: a collection as plain files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2vsearch.cli.options import Index, Quiet
from e2vsearch.cli.output import note

if TYPE_CHECKING:
    from e2vsearch.transfer.export import TransferReport


def export(
    folder: Annotated[Path, typer.Argument(help="A new folder: manifest.json, JSON lines and .npy files.")],
    index: Index = None,
    quiet: Quiet = False,
) -> None:
    """Write a whole collection to plain files, lossless: vectors, transcripts, labels, classifiers, side vectors."""
    import e2vsearch
    from e2vsearch.transfer import export as transfer

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
    from e2vsearch.transfer import import_ as transfer_import_

    transfer_import_.read_space(folder)  # before a collection is made for something that is no export
    with e2vsearch.open(index) as collection:
        done = transfer_import_.load(collection.catalog, folder.expanduser().absolute())
        collection.index.maintain()
    already = f", {done.already:,} already there" if done.already else ""
    note(f"imported {_went_over(done)}{already}", quiet=quiet)


def _went_over(done: TransferReport) -> str:
    found = [
        f"{count:,} {name}"
        for count, name in (
            (done.found.labels, "labels"),
            (done.found.classifiers, "classifiers"),
            (done.found.named_vectors, "sets of named vectors"),
        )
        if count
    ]
    return ", ".join([f"{done.recordings:,} recordings with {done.segments:,} segments", *found])
