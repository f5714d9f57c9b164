"""The status of a collection: what it is, how much it holds, and how its index fares."""

from __future__ import annotations

from e2vsearch.catalog import spaces
from e2vsearch.catalog.named_vectors import listed
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import AnalysisError
from e2vsearch.projections.view import Views
from e2vsearch.types import Status


def status(catalog: Catalog, views: Views) -> Status:
    """Return the status of a collection, also where its projection cannot be read."""
    from e2vsearch.catalog.text_search import transcribed

    space, index, problem = catalog.space, None, None
    if space is not None:
        try:
            view = views.current()
            space, index = view.projected(space), view.index.status()
        except AnalysisError as error:  # damaged, or of an earlier format
            problem = str(error)
    held = catalog.counts(), index, transcribed(catalog), tuple(listed(catalog)), problem, catalog.policy
    return Status(catalog.name, catalog.collection_id, space, *held, beside=spaces.progress(catalog))
