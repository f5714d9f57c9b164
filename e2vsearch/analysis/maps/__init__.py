"""Maps: segments or recordings in two dimensions, with their clusters described."""

from __future__ import annotations

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.maps import build


class Maps(AnalysisContext):
    """The facet `Collection.maps`."""

    build = build.build
    load = build.load
    place = build.place
    list = build.list_maps
    drop = build.drop
