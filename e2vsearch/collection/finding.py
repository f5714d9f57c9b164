"""Stored recordings by what people call them: ids, files and folders, filters. Knows rows, opens no file."""

from __future__ import annotations

import os
from collections.abc import Sequence

from e2vsearch.catalog import Catalog, Recording
from e2vsearch.catalog.records import number_of
from e2vsearch.collection.places import scheme_of
from e2vsearch.collection.references import local_path
from e2vsearch.errors import NotStored


def find(catalog: Catalog, named: str, recordings: Sequence[str], where: str | None) -> list[Recording]:
    """Recordings by id (``call:45``), by the file, folder or address they were ingested from, or by a filter, or both.

    Args:
        catalog: where they are stored.
        named: what the collection is called in an error.
        recordings: ids and paths; none with a filter alone.
        where: the filter.

    Raises:
        NotStored: one of them is not there.
        BadFilter: `where` does not parse, or names nothing known.
    """
    # every URI is read only where a path is named
    known = {} if all(each.startswith("call:") for each in recordings) else catalog.known()
    numbers: set[int] = set()
    for recording in recordings:
        if recording.startswith("call:"):
            inside = [number for number, _ in catalog.recordings([number_of(recording, "call")])]
        else:
            if scheme_of(recording) in (None, "file"):
                place, separator = os.path.abspath(local_path(recording)), os.sep  # noqa: PTH100 - no ".." is stored
            else:
                place, separator = recording.rstrip("/"), "/"
            inside = [each.id for uri, each in known.items() if uri == place or uri.startswith(place + separator)]
        if not inside:
            raise NotStored(f"{recording} is not in {named} - e2vsearch query shows ids and paths")
        numbers.update(inside)
    if where is not None:
        chosen = set(catalog.recordings_where(where))
        numbers = numbers & chosen if recordings else chosen
    return [recording for _, recording in catalog.recordings(sorted(numbers))]
