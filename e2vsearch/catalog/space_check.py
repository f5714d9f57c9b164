"""Whether vectors belong to the space that a collection is pinned to, and what is said where they do not."""

from __future__ import annotations

from sqlalchemy import Connection, select

from e2vsearch.catalog.schema import HeaderRow, SpaceRow
from e2vsearch.errors import REEMBED, SpaceChanged, SpaceMismatch
from e2vsearch.types import Space


def check_space_in_use(connection: Connection, number: int | None, name: str) -> None:
    """Check that a space is still the one in use, and hold it so until the transaction ends.

    Args:
        connection: in a transaction that writes.
        number: of the space that something was made in.
        name: of the collection.

    Raises:
        SpaceChanged: another process has re-embedded the collection since.
    """
    used = select(SpaceRow.id, SpaceRow.source).join(HeaderRow, HeaderRow.space_id == SpaceRow.id)
    row = connection.execute(used.with_for_update(read=True, of=HeaderRow)).one()
    if row.id != number:
        raise SpaceChanged(
            f"{name} was re-embedded meanwhile, and takes vectors of {row.source} now - run this again, with --encoder "
            f"{row.source} or without: what is stored is skipped"
        )


def mismatch(held: Space, held_source: str, space: Space | str, source: str) -> SpaceMismatch:
    """Return the error for vectors of another space than a collection's, with the cures.

    Args:
        held: the collection's.
        held_source: what its encoder is opened by.
        space: of the vectors, or the name of their encoder where that is not opened.
        source: what their encoder was opened by.
    """
    go_on = f"--encoder {held_source}"
    if held_source == held.encoder == getattr(space, "encoder", None):  # by name: its weights have changed since
        go_on = f"the version of e2vsearch whose {held.encoder} made them"
    if isinstance(space, Space) and held.differs_in_precision(space):
        go_on = f"--precision {held.precision}"
        if (held.precision, space.precision) == ("fp32", "bf16"):
            go_on += ", or bf16-as-fp32 to mix them all the same"
    return SpaceMismatch(
        f"this collection holds vectors of {held}, not of {space} - go on with {go_on}, or start another "
        f"collection with --index ANOTHER, or move this one, searched all the while: {REEMBED} --encoder {source}"
    )
