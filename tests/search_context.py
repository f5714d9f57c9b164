"""The search context of an open collection, as its queries get it."""

from __future__ import annotations

from e2vsearch.collection import Collection
from e2vsearch.search.context import SearchContext


def search_context(collection: Collection) -> SearchContext:
    """Return the context of the projection in use."""
    return SearchContext(collection.catalog, collection.projections.view(), collection.embed)
