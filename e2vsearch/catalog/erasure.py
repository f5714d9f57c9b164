"""Erasure of recordings from the database: their rows, what quotes them, and the pages and logs that held both.

A row that is deleted leaves its bytes in the file. Every connection to SQLite has ``secure_delete`` on, which
overwrites them; what that does not reach is rewritten by `scrub`: the full-text index, whose entries stay until its
parts are merged, the write-ahead log, and free space in pages that an earlier version wrote.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, delete, exists, func, select, update
from sqlalchemy.exc import DBAPIError

from e2vsearch.catalog.database import chunks, place
from e2vsearch.catalog.maps import period_start
from e2vsearch.catalog.recordings import below
from e2vsearch.catalog.rows import delete_recordings
from e2vsearch.catalog.schema import (
    Base,
    ClassifierRow,
    FailureRow,
    JobRow,
    LabelExampleRow,
    MapPointRow,
    MapRow,
    MetadataRow,
    RecordingRow,
    SegmentRow,
)
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import CatalogError
from e2vsearch.types import number_of

_WAIT_S, _LOOK_S = 60.0, 0.05  # for other transactions of a Postgres server to end


@dataclass(frozen=True, slots=True)
class Erased:
    """Counts of deleted rows."""

    recordings: int = 0
    segments: int = 0
    label_examples: int = 0
    jobs: int = 0
    failures: int = 0

    def __add__(self, other: Erased) -> Erased:
        return Erased(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


def recorded_before(catalog: Catalog, time: datetime) -> list[int]:
    """Return the recordings that were recorded before a time, ascending."""
    query = select(RecordingRow.id).where(RecordingRow.recorded_at < time).order_by(RecordingRow.id)
    with catalog.reading() as connection:
        return list(connection.execute(query).scalars())


def traces_at(catalog: Catalog, names: Sequence[str]) -> list[str]:
    """Return the URIs of jobs, failures and examples of labels at files, folders or URLs, stored or not."""
    at = [below(name) for name in names if not name.startswith("call:")]
    if not at:
        return []
    with catalog.reading() as connection:
        found = {uri for row in (JobRow, FailureRow) for uri in connection.execute(select(row.uri)).scalars()}
        found.update(uri for _, uri in _examples_of_files(connection))
    return sorted(uri for uri in found if any(is_there(uri) for is_there in at))


def erase(catalog: Catalog, numbers: Sequence[int], uris: Sequence[str] = ()) -> Erased:
    """Delete recordings with all that belongs to them, some hundreds in a transaction.

    Segments, vectors, named vectors, words, predictions and metadata go with them, and so do examples of labels whose
    vector or source is theirs, their jobs and their failures. The change feed keeps their numbers, and nothing else: an
    index anywhere learns from it what to leave out.

    Args:
        catalog: of the collection.
        numbers: of the recordings.
        uris: of further jobs, failures and examples of labels.
    """
    erased = Erased()
    for part in chunks(list(numbers)):
        with catalog.writing() as connection:
            of_part = select(SegmentRow.id).where(SegmentRow.recording_id.in_(part))
            stored = connection.execute(select(func.count()).select_from(of_part.subquery())).scalar_one()
            vectors = select(catalog.vectors.vector).where(catalog.vectors.segment_id.in_(of_part))
            same = LabelExampleRow.segment_id.in_(of_part) | LabelExampleRow.vector.in_(vectors)
            examples = connection.execute(delete(LabelExampleRow).where(same)).rowcount
            known = connection.execute(select(RecordingRow.uri).where(RecordingRow.id.in_(part))).scalars().all()
            erased += _erase_uris(connection, known)
            erased += Erased(delete_recordings(connection, list(part)), stored, examples)
    for names in chunks(list(uris)):
        with catalog.writing() as connection:
            erased += _erase_uris(connection, names)
    return erased


def prune(catalog: Catalog) -> int:
    """Delete from maps what was removed, and classifiers that a newer version replaced; return the number of points.

    Clusters quote segments, and values of metadata, which go if no recording has them any more. Their trends are
    counted anew.
    """
    newest = select(func.max(ClassifierRow.id)).group_by(ClassifierRow.name)
    with catalog.writing() as connection:
        connection.execute(delete(ClassifierRow).where(ClassifierRow.id.not_in(newest)))
        maps = connection.execute(select(MapRow.id, MapRow.by, MapRow.clusters).with_for_update()).all()
        return sum(_prune_map(connection, *row) for row in maps)


def scrub(catalog: Catalog, *, vacuum: bool = True) -> None:
    """Overwrite what was deleted, in the database's own files.

    Args:
        catalog: of the collection.
        vacuum: rewrite all of the database, which holds up writers; else only the full-text index and the log.

    Raises:
        CatalogError: it cannot be rewritten, or others read for so long that the log could not be emptied.
    """
    (_scrub_postgres if catalog.url.get_backend_name() == "postgresql" else _scrub_sqlite)(catalog, vacuum)


def _scrub_sqlite(catalog: Catalog, vacuum: bool) -> None:
    # not FTS5's own secure-delete, which SQLite before 3.42 lacks, and which makes tables that it cannot read
    statements = ["INSERT INTO segment_words (segment_words) VALUES ('optimize')", *["VACUUM"] * vacuum]
    with catalog.outside_transactions() as execute:
        for statement in statements:
            execute(statement)
        busy, *_ = execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise CatalogError(
            f"{place(catalog.url)}-wal holds bytes of what was deleted: other processes are reading - "
            "finish with: e2vsearch forget"
        )


def _scrub_postgres(catalog: Catalog, vacuum: bool) -> None:
    tables = ", ".join(Base.metadata.tables)
    how = "FULL, ANALYZE" if vacuum else "ANALYZE"
    with catalog.outside_transactions() as execute:
        if vacuum and not _is_seen_by_nobody(execute):
            raise CatalogError(
                f"{place(catalog.url)} holds rows of what was deleted, since transactions on that server may still "
                "read them - end these (pg_stat_activity names them), then finish with: e2vsearch forget"
            )
        execute(f"VACUUM ({how}) {tables}")
        # most common values of columns; who may not do this gets a warning, and a later autovacuum does it
        execute(f"VACUUM {'FULL' if vacuum else ''} pg_catalog.pg_statistic")
        with suppress(DBAPIError):  # the right of a superuser: else former files go with the next checkpoint
            execute("CHECKPOINT")


def _is_seen_by_nobody(execute: Callable[[str], Any]) -> bool:
    """Wait until no transaction may see what was deleted before; whether that came to pass.

    VACUUM FULL copies dead rows that another transaction may see. Its own snapshot counts too, and that begins with the
    oldest transaction of all databases of the server.
    """
    mine = int(execute("SELECT pg_current_xact_id()::text").fetchone()[0])
    query = (
        f"SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > {mine} AND NOT EXISTS ("
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        f"AND age(backend_xmin) >= age('{mine % 2**32}'::xid))"
    )
    until = time.monotonic() + _WAIT_S
    while not (unseen := bool(execute(query).fetchone()[0])) and time.monotonic() < until:
        time.sleep(_LOOK_S)
    return unseen


def _erase_uris(connection: Connection, uris: Sequence[str]) -> Erased:
    wanted = set(uris)
    examples = [number for number, uri in _examples_of_files(connection) if uri in wanted]
    for part in chunks(examples):
        connection.execute(delete(LabelExampleRow).where(LabelExampleRow.id.in_(part)))
    jobs = connection.execute(delete(JobRow).where(JobRow.uri.in_(uris))).rowcount
    failures = connection.execute(delete(FailureRow).where(FailureRow.uri.in_(uris))).rowcount
    return Erased(label_examples=len(examples), jobs=jobs, failures=failures)


def _examples_of_files(connection: Connection) -> list[tuple[int, str]]:
    """Return the examples of labels that are no stored segments, with their files."""
    query = select(LabelExampleRow.id, LabelExampleRow.source).where(LabelExampleRow.segment_id.is_(None))
    return [(row.id, row.source.rpartition("@")[0] or row.source) for row in connection.execute(query)]


def _prune_map(connection: Connection, number: int, by: str, clusters: list[dict[str, Any]]) -> int:
    stored = select(RecordingRow.id if by == "recording" else SegmentRow.id)
    of_map = MapPointRow.map_id == number
    gone = connection.execute(delete(MapPointRow).where(of_map, MapPointRow.item_id.not_in(stored))).rowcount
    if connection.execute(select(MapPointRow.item_id).where(of_map).limit(1)).first() is None:
        connection.execute(delete(MapRow).where(MapRow.id == number))
        return gone
    dated = _dated(connection, number, by)
    pruned = [_prune_trend(_prune_cluster(connection, each), dated) for each in clusters]
    if pruned != clusters:
        connection.execute(update(MapRow).where(MapRow.id == number).values(clusters=pruned))
    return gone


def _prune_cluster(connection: Connection, cluster: dict[str, Any]) -> dict[str, Any]:
    central = [number_of(each["segment"], "seg") for each in cluster["segments"]]
    there = set(connection.execute(select(SegmentRow.id).where(SegmentRow.id.in_(central))).scalars())
    metadata, name = [], cluster["name"]
    for each in cluster["metadata"]:
        held = exists().where(MetadataRow.key == each["key"], MetadataRow.text == each["value"])
        if connection.execute(select(held)).scalar_one():
            metadata.append(each)
        else:  # as `cluster_description` writes it into the name
            quoted = f"{each['key']}={each['value']}"
            name = name.replace(f" · {quoted}", "").replace(quoted, "cluster")
    segments = [each for at, each in zip(central, cluster["segments"], strict=True) if at in there]
    return {**cluster, "name": name, "segments": segments, "metadata": metadata}


def _dated(connection: Connection, number: int, by: str) -> list[tuple[int, int, date]]:
    """Return the recordings on a map, once for each cluster they are in: the cluster, the recording, its day."""
    query = select(MapPointRow.cluster, RecordingRow.id, RecordingRow.recorded_at).where(MapPointRow.map_id == number)
    if by == "recording":
        query = query.join(RecordingRow, RecordingRow.id == MapPointRow.item_id)
    else:
        query = query.join(SegmentRow, SegmentRow.id == MapPointRow.item_id)
        query = query.join(RecordingRow, RecordingRow.id == SegmentRow.recording_id)
    return [(cluster, recording, at.date()) for cluster, recording, at in connection.execute(query.distinct())]


def _prune_trend(cluster: dict[str, Any], dated: Sequence[tuple[int, int, date]]) -> dict[str, Any]:
    """Return a cluster whose trend counts what is left: a day on which the only call was erased told of that call."""
    if not cluster.get("trend"):
        return cluster
    starts = {recording: period_start(day, cluster["period"]).isoformat() for _, recording, day in dated}
    of = Counter(starts.values())
    inside = Counter(starts[recording] for number, recording, _ in dated if number == cluster["number"])
    trend = [
        {"start": start, "recordings": inside[start], "of": count, "share": inside[start] / count}
        for start, count in sorted(of.items())
    ]
    return {**cluster, "trend": trend}
