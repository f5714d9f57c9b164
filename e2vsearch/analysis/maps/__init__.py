"""Maps: segments or recordings in two dimensions, with their clusters described."""

from __future__ import annotations

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.maps import build as maps
from e2vsearch.analysis.maps import columns, output


class Maps(AnalysisContext):
    """The facet `Collection.maps`."""

    build = maps.build
    load = maps.load
    place = maps.place
    list = maps.list_maps
    drop = maps.drop
    write = output.write
    point_columns = columns.point_columns
    value_column = columns.value_column
