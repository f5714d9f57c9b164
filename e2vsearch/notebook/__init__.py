"""How results look in a notebook: tables with sound, the strip of a call, a map; HTML and SVG without scripts.

Everything that a collection holds is escaped, whatever it is. Nothing here needs a package of a notebook's: a class's
``_repr_html_`` is all that Jupyter asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from e2vsearch.types import Status


class _Collection(Protocol):
    def status(self) -> Status:
        """Return what it holds."""


def collection_html(collection: _Collection) -> str:
    """Return what a collection holds, as a table: its ``_repr_html_``."""
    from e2vsearch.notebook.facts import status_table

    return status_table(collection.status())
