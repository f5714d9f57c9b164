"""The facet `Collection.spaces`: a collection moves to another encoder's space, and is searched all the while."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from e2vsearch.catalog.writer import Catalog
from e2vsearch.encoders.base import Encoder
from e2vsearch.index import Index
from e2vsearch.projections.view import Views
from e2vsearch.settings import Settings
from e2vsearch.spaces import run
from e2vsearch.spaces.report import ReembedPlan, ReembedReport
from e2vsearch.types import Space


@dataclass(frozen=True)
class Spaces:
    """The space in use, and another one beside it.

    Attributes:
        catalog: of the collection.
        views: of the collection.
        index: of the collection.
        settings: of which device, precision and number of workers are used.
        adopt: takes an open encoder for the collection's own, once it is of its space.
    """

    catalog: Catalog
    views: Views
    index: Index
    settings: Settings
    adopt: Callable[[Encoder], None]

    def reembed(self, encoder: str | Encoder, **options: Any) -> ReembedReport:
        """Embed what is stored with another encoder, and switch to its space, see `e2vsearch.spaces.run.reembed`."""
        report = run.reembed(self.catalog, self.views, self.index, self.settings, encoder, **options)
        if report.switched and isinstance(encoder, Encoder):  # which no name may open
            self.adopt(encoder)
        return report

    def plan(self, encoder: str | Encoder, **options: Any) -> ReembedPlan:
        """Return what `reembed` would do, see `e2vsearch.spaces.run.plan`; nothing is read or written."""
        return run.plan(self.catalog, self.settings, encoder, **options)

    def discard(self) -> Space | None:
        """Delete the space that is not in use, unfinished or kept, and return it; None where there is none."""
        return run.discard(self.catalog, self.index)
