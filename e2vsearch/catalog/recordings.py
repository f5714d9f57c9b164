"""Recordings by id, path, filter or page, and values of their metadata."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from sqlalchemy import func, select

from e2vsearch.catalog.database import chunks, filtering
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.schema import (
    MetadataRow,
    RecordingRow,
    SegmentRow,
)
from e2vsearch.catalog.stored_file import STORED_FILE, StoredFile
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import NotStored
from e2vsearch.files import local_path, uri_scheme
from e2vsearch.types import Recording, Segment, number_of

MAX_VALUE_LENGTH = 100
"""Longer values are notes, which are of no use in a list to choose from."""


def recording(catalog: Catalog, identifier: str) -> Recording:
    """Return one stored recording by its id, ``call:45``.

    Raises:
        NotStored: there is none.
    """
    for _, found in catalog.recordings([number_of(identifier, "call")]):
        return found
    raise NotStored(f"{identifier} is not in {catalog.name} - e2vsearch calls lists ids")


def count(catalog: CatalogReader) -> int:
    """Return the number of recordings."""
    with catalog.reading() as connection:
        return connection.execute(select(func.count()).select_from(RecordingRow)).scalar_one()


def stored_contents(catalog: CatalogReader, hashes: Sequence[str]) -> set[str]:
    """Return those of some SHA-256 of contents that a stored recording has."""
    found: set[str] = set()
    with catalog.reading() as connection:
        for part in chunks(hashes):
            query = select(RecordingRow.content_sha256).where(RecordingRow.content_sha256.in_(part))
            found |= set(connection.execute(query).scalars())
    return found


def segment(catalog: Catalog, identifier: str) -> Segment:
    """Return one stored segment by its id, ``seg:123``.

    Raises:
        NotStored: there is none.
    """
    for _, found in catalog.segments([number_of(identifier, "seg")]):
        return found
    raise NotStored(f"{identifier} is not in {catalog.name} - e2vsearch query and show print ids")


def segments(catalog: Catalog, identifier: str) -> list[Segment]:
    """Return the segments of one stored recording, in order of time."""
    ids, _ = catalog.segments_of([number_of(identifier, "call")])
    return sorted((found for _, found in catalog.segments(ids.tolist())), key=lambda each: each.start_s)


def page(
    catalog: CatalogReader, limit: int, after: int = 0, where: str | None = None, text: str | None = None
) -> list[Recording]:
    """Return recordings in order of their ids.

    Args:
        catalog: of the collection.
        limit: how many at most.
        after: only those with a greater number.
        where: only those with a segment that meets this filter.
        text: only those with a segment in which these words are said; with `where`, in the same segment.

    Raises:
        BadFilter: `where` or `text` does not parse, or names nothing known.
    """
    query = select(RecordingRow.id).where(RecordingRow.id > after).order_by(RecordingRow.id).limit(limit)
    met = select(SegmentRow.recording_id)
    if where is not None:
        met = met.where(catalog.condition(where, administer=True))
    if text is not None:
        from e2vsearch.catalog.text_search import condition

        met = met.where(condition(catalog, text))
    if where is not None or text is not None:
        query = query.where(RecordingRow.id.in_(met))
    with filtering(), catalog.reading() as connection:
        numbers = list(connection.execute(query).scalars())
    return [found for _, found in catalog.recordings(numbers)] if numbers else []


def metadata_values(catalog: CatalogReader, most: int) -> dict[str, list[str]]:
    """Return each metadata key that emotion may be analysed by, with its `most` most frequent values."""
    counted = select(MetadataRow.key, MetadataRow.text, func.count().label("n"))
    counted = counted.where(func.length(MetadataRow.text) <= MAX_VALUE_LENGTH)
    of_values = counted.group_by(MetadataRow.key, MetadataRow.text).subquery()
    rank = func.row_number().over(partition_by=of_values.c.key, order_by=(of_values.c.n.desc(), of_values.c.text))
    ranked = select(of_values.c.key, of_values.c.text, rank.label("rank")).subquery()
    query = select(ranked.c.key, ranked.c.text).where(ranked.c.rank <= most).order_by(ranked.c.key, ranked.c.rank)
    keys = catalog.metadata_keys()
    found: dict[str, list[str]] = {key: [] for key in sorted(keys - set(catalog.policy.refused(keys)))}
    with catalog.reading() as connection:
        for key, value in connection.execute(query):
            if key in found:
                found[key].append(value)
    return found


def left_out(catalog: CatalogReader) -> list[str]:
    """Return the metadata keys that name employees, by which no emotion is analysed."""
    return sorted(catalog.policy.refused(catalog.metadata_keys()))


def below(wanted: str) -> Callable[[str], bool]:
    """Return what tells whether a URI is that of a file, or in a folder or below a URL."""
    if uri_scheme(wanted) in (None, "file"):
        place, separator = os.path.abspath(local_path(wanted)), os.sep  # noqa: PTH100 - no ".." is stored
    else:
        place, separator = wanted.rstrip("/"), "/"

    def is_there(uri: str) -> bool:
        at = local_place(uri)
        return at == place or at.startswith(place + separator)

    return is_there


def find(catalog: Catalog, recordings: Sequence[str], where: str | None, *, damaged: bool = False) -> list[Recording]:
    """Return recordings by id (``call:45``), by the file, folder or URL they are from, or by a filter, or both.

    Args:
        catalog: where they are stored.
        recordings: ids and paths; none with a filter alone.
        where: the filter.
        damaged: return those too whose rows are not what was stored.

    Raises:
        NotStored: the collection does not hold one of them.
        BadFilter: `where` does not parse, or names nothing known.
    """
    # all URIs are read only where a path is given
    known = {} if all(each.startswith("call:") for each in recordings) else catalog.stored_files()
    numbers: set[int] = set()
    for wanted in recordings:
        if wanted.startswith("call:"):
            inside = [number for number, _ in catalog.recordings([number_of(wanted, "call")], damaged=True)]
        else:
            is_there = below(wanted)
            inside = [each.id for uri, each in known.items() if is_there(uri)]
        if not inside:
            raise NotStored(f"{wanted} is not in {catalog.name} - e2vsearch calls lists ids and names")
        numbers.update(inside)
    if where is not None:
        chosen = set(catalog.recordings_where(where))
        numbers = numbers & chosen if recordings else chosen
    return [found for _, found in catalog.recordings(sorted(numbers), damaged=damaged)]


def by_name(catalog: CatalogReader, name: str) -> list[Recording]:
    """Return the recordings of that name, which is a file's without its suffix."""
    with catalog.reading() as connection:
        numbers = list(connection.execute(select(RecordingRow.id).where(RecordingRow.name == name)).scalars())
    return [found for _, found in catalog.recordings(numbers)] if numbers else []


def local_place(uri: str) -> str:
    """Return the path of a stored file, the URL of what is stored from elsewhere."""
    return os.fspath(local_path(uri)) if uri_scheme(uri) == "file" else uri


def listed(catalog: Catalog, names: Sequence[str], where: str | None, *, damaged: bool = False) -> list[Recording]:
    """Return recordings as `find` does, all by default."""
    if names or where is not None:
        return find(catalog, names, where, damaged=damaged)
    return [found for _, found in catalog.recordings(damaged=damaged)]


def remove(catalog: Catalog, names: Sequence[str], where: str | None) -> int:
    """Remove recordings, named as `find` takes them, and return how many; none by default."""
    return catalog.remove([number_of(each.id, "call") for each in find(catalog, names, where, damaged=True)])


def find_segments(catalog: Catalog, names: Sequence[str], where: str | None) -> list[Segment]:
    """Return segments by id (``seg:123``), by recording as `find` takes it, or by a filter, or both; all by default.

    Raises:
        NotStored: one of them is not there.
        BadFilter: `where` does not parse, or names nothing known.
    """
    numbers: list[int] | None = None
    if names:
        of_segments = [number_of(segment(catalog, name).id, "seg") for name in names if name.startswith("seg:")]
        rest = [name for name in names if not name.startswith("seg:")]
        of_recordings = find(catalog, rest, None) if rest else []
        ids, _ = catalog.segments_of([number_of(each.id, "call") for each in of_recordings])
        numbers = [*of_segments, *ids.tolist()]
    if where is not None:
        chosen = set(catalog.select(where).tolist())
        numbers = sorted(chosen) if numbers is None else [number for number in numbers if number in chosen]
    found = (each for _, each in catalog.segments(numbers))
    return sorted(found, key=lambda each: (number_of(each.recording, "call"), each.start_s, each.channel))


def recording_at(catalog: Catalog, uri: str) -> StoredFile | None:
    """Return the recording that was ingested from a URI."""
    with catalog.reading() as connection:
        row = connection.execute(STORED_FILE.where(RecordingRow.uri == uri)).first()
    return None if row is None else StoredFile.of(row)
