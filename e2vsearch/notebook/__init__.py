"""How results look in a notebook: tables with sound, the strip of a call, a map; HTML and SVG without scripts.

Everything that a collection holds is escaped, whatever it is. Nothing here needs a package of a notebook's: a class's
``_repr_html_`` is all that Jupyter asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from e2vsearch.types import Space, Status


class _Collection(Protocol):
    location: Any  # with the name of its place

    @property
    def space(self) -> Space | None:
        """Return the one it is pinned to."""

    def status(self) -> Status:
        """Return what it holds."""


def collection_html(collection: _Collection) -> str:
    """Return what a collection holds, as a table: its ``_repr_html_``."""
    from e2vsearch.notebook.facts import status_table

    return status_table(collection.status())


def collection_text(collection: _Collection) -> str:
    """Return what a collection is called and the space that it is in: its ``repr``."""
    return f"Collection({collection.location.named!r}, {collection.space or 'empty'})"
