"""Maps: segments or recordings in two dimensions, with their clusters described."""

from __future__ import annotations

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.maps import build as maps
from e2vsearch.analysis.maps import output


class Maps(AnalysisContext):
    """The facet `Collection.maps`."""

    build = maps.build
    load = maps.load
    place = maps.place
    list = maps.list_maps
    drop = maps.drop
    write = output.write
