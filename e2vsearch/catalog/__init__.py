"""The catalog: the SQL database, where truth lives, vectors included. Knows rows, nothing of audio or indexes.

`Catalog` reads and writes recordings, `Feed` gives an index what is new and what is gone, `filters` turns ``--where``
into SQL, and `upgrade` makes the tables.
"""

from e2vsearch.catalog.feed import Feed
from e2vsearch.catalog.records import Counts, Failure, NewRecording, NewSegment, Recording, Segment
from e2vsearch.catalog.store import Catalog, Stored
from e2vsearch.catalog.tables import SCHEMA_REVISION

__all__ = [
    "SCHEMA_REVISION",
    "Catalog",
    "Counts",
    "Failure",
    "Feed",
    "NewRecording",
    "NewSegment",
    "Recording",
    "Segment",
    "Stored",
]
