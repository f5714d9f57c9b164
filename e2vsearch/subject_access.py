"""Access to everything that is held about one recording, as Art. 15 GDPR gives it to the person who speaks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from e2vsearch.catalog import audit, erasure, recordings
from e2vsearch.catalog.beside import VECTOR_TABLES
from e2vsearch.catalog.database import chunks
from e2vsearch.catalog.dynamics import dynamics_of, to_plain
from e2vsearch.catalog.schema import (
    ChangeRow,
    ClassifierRow,
    FailureRow,
    JobRow,
    LabelExampleRow,
    MapPointRow,
    MapRow,
    NamedVectorRow,
    NamedVectorSetRow,
    ProjectionRow,
    RecordingRow,
    SegmentLabelRow,
)
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import NotStored, QueryError
from e2vsearch.index import Index
from e2vsearch.playback import Playback
from e2vsearch.types import Recording, number_of, segment_id

FLOAT_BYTES = 4


def about(catalog: Catalog, index: Index, playback: Playback, name: str) -> dict[str, Any]:
    """Return everything that is held about one recording, as plain values for JSON.

    Vectors are told by their length alone. Queries that are kept beside the index have no names, and are left out.

    Args:
        catalog: of the collection.
        index: of the collection.
        playback: of the collection.
        name: ``call:45``, or the path or URL that it was, or was to be, ingested from.

    Raises:
        NotStored: nothing is known by that name.
        QueryError: more than one recording is.
    """
    found, uris = _found(catalog, name)
    numbers = [] if found is None else [number_of(found.id, "call")]
    ids = catalog.segments_of(numbers)[0].tolist()
    since = datetime.min if found is None else found.added_at
    with catalog.reading() as connection:
        held: dict[str, Any] = {
            "recording": None if found is None else {**asdict(found), **_columns(connection, numbers[0])},
            "dynamics": [to_plain(each) for each in dynamics_of(connection, numbers).values()],
            "segments": _segments(catalog, connection, ids),
            "label_examples": _label_examples(connection, ids, uris),
            "map_points": _map_points(connection, ids, numbers),
            "map_quotations": _quotations(connection, [segment_id(each) for each in ids]),
            # no list is kept of what each was made of: what was made since the recording was added
            "classifiers_made_since": _made_since(connection, ClassifierRow, since),
            "projections_made_since": _made_since(connection, ProjectionRow, since),
            "jobs": _rows(connection, select(JobRow.__table__).where(JobRow.uri.in_(uris))),
            "failures": _rows(connection, select(FailureRow.__table__).where(FailureRow.uri.in_(uris))),
            "changes": _some(connection, select(ChangeRow.__table__), ChangeRow.segment_id, ids),
        }
    held["audit"] = _audited(catalog, [*(f"call:{each}" for each in numbers), *map(segment_id, ids)], uris)
    held["cached_audio_bytes"] = 0 if found is None else playback.cache.held(found.content_sha256)
    held["index_generations"] = index.generations_with(ids)
    plain: dict[str, Any] = _plain(held)
    return plain


def _found(catalog: Catalog, name: str) -> tuple[Recording | None, list[str]]:
    try:
        several = recordings.find(catalog, [name], None)
    except NotStored:
        uris = erasure.traces_at(catalog, [name])
        if not uris:
            raise
        several = []
    else:
        uris = [each.uri for each in several]
    if len(uris) > 1:
        raise QueryError(f"{name} names {len(uris):,} recordings - name one, by its path or id")
    return (several[0] if several else None), uris


def _columns(connection: Connection, number: int) -> dict[str, Any]:
    """Return the columns that a `Recording` has not, or not as they are stored."""
    query = select(RecordingRow.roles, RecordingRow.course).where(RecordingRow.id == number)
    return dict(connection.execute(query).mappings().one())


def _segments(catalog: Catalog, connection: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return segments with their predictions, and the lengths of their vectors."""
    lengths: dict[int, dict[str, int]] = {each: {} for each in ids}
    predictions: dict[int, list[dict[str, Any]]] = {each: [] for each in ids}
    named = select(NamedVectorRow.segment_id, NamedVectorSetRow.name, NamedVectorRow.vector)
    named = named.join(NamedVectorSetRow, NamedVectorSetRow.id == NamedVectorRow.set_id)
    by = (ClassifierRow.name, ClassifierRow.version, SegmentLabelRow.label, SegmentLabelRow.score)
    labels = select(SegmentLabelRow.segment_id, *by).join(ClassifierRow)
    for part in chunks(ids):
        for table in VECTOR_TABLES.values():  # of two where the collection is being re-embedded
            query = select(table.segment_id, table.vector).where(table.segment_id.in_(part))
            for number, vector in connection.execute(query):
                key = "vector" if table is catalog.vectors else "vector of another space"
                lengths[number][key] = len(vector) // FLOAT_BYTES
        for number, name, vector in connection.execute(named.where(NamedVectorRow.segment_id.in_(part))):
            lengths[number][name] = len(vector) // FLOAT_BYTES
        for row in connection.execute(labels.where(SegmentLabelRow.segment_id.in_(part))).mappings():
            rest = dict(row)
            predictions[rest.pop("segment_id")].append(rest)
    found = [asdict(each) for _, each in catalog.segments(ids)]
    return [
        {**each, "predictions": predictions[number], "numbers_in_vectors": lengths[number]}
        for each, number in ((each, number_of(each["id"], "seg")) for each in found)
    ]


def _label_examples(connection: Connection, ids: Sequence[int], uris: Sequence[str]) -> list[dict[str, Any]]:
    row = LabelExampleRow
    query = select(row.id, row.label, row.segment_id, row.source, row.speaker, row.created_at)
    found = _some(connection, query, row.segment_id, ids)
    others = [each for each in _rows(connection, query.where(row.segment_id.is_(None))) if _of_file(each, uris)]
    return [*found, *others]


def _of_file(example: dict[str, Any], uris: Sequence[str]) -> bool:
    source = str(example["source"])
    return (source.rpartition("@")[0] or source) in uris


def _map_points(connection: Connection, ids: Sequence[int], numbers: Sequence[int]) -> list[dict[str, Any]]:
    point = MapPointRow
    query = select(MapRow.name.label("map"), MapRow.by, point.item_id, point.x, point.y, point.cluster, point.strength)
    query = query.join(MapRow, MapRow.id == point.map_id)
    of_segments = _some(connection, query.where(MapRow.by == "segment"), point.item_id, ids)
    return [*of_segments, *_some(connection, query.where(MapRow.by == "recording"), point.item_id, numbers)]


def _quotations(connection: Connection, segments: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"map": name, "cluster": cluster["name"], "segment": each["segment"]}
        for name, clusters in connection.execute(select(MapRow.name, MapRow.clusters))
        for cluster in clusters
        for each in cluster["segments"]
        if each["segment"] in segments
    ]


def _made_since(connection: Connection, row: Any, since: datetime) -> list[dict[str, Any]]:
    columns = [row.name, row.created_at] + ([row.version] if row is ClassifierRow else [row.kind])
    return _rows(connection, select(*columns).where(row.created_at >= since).order_by(row.created_at))


def _audited(catalog: Catalog, names: Sequence[str], uris: Sequence[str]) -> list[dict[str, Any]]:
    """Return the entries of the audit log that name the recording, a segment of it, or its file."""
    wanted = set(names)
    quoted = [json.dumps(each)[1:-1] for each in uris]
    found = []
    for entry in audit.entries(catalog.reading):
        request = json.dumps(entry.request)
        if (
            wanted & set(entry.results)
            or any(f'"{each}"' in request for each in wanted)
            or any(each in request for each in quoted)
        ):
            found.append(asdict(entry))
    return found


def _some(connection: Connection, query: Any, column: Any, numbers: Sequence[int]) -> list[dict[str, Any]]:
    return [row for part in chunks(numbers) for row in _rows(connection, query.where(column.in_(part)))]


def _rows(connection: Connection, query: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
