"""Reading and writing recordings. Every method that writes is one transaction: it happened wholly, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Row, Select, delete, func, insert, select, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError, OperationalError

from e2vsearch.catalog import upgrade as schema
from e2vsearch.catalog.database import connect, first_line, parsed, place, reachable, sqlite_file
from e2vsearch.catalog.feed import Feed
from e2vsearch.catalog.records import (
    Counts,
    Failure,
    NewRecording,
    Recording,
    Segment,
)
from e2vsearch.catalog.rows import delete_recordings, insert_segments, set_metadata, to_recording, to_segment
from e2vsearch.catalog.tables import (
    CollectionRow,
    FailureRow,
    MetadataRow,
    RecordingRow,
    SegmentRow,
    SpaceRow,
)
from e2vsearch.errors import CatalogError, E2vsearchError, NoCollection, NotStored, SpaceMismatch
from e2vsearch.space import Space

_ROWS_PER_STATEMENT = 1000


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a recording that was handed to `Catalog.store`."""

    id: int
    outcome: Literal["stored", "replaced", "already"]


@dataclass(frozen=True, slots=True)
class Known:
    """What is needed to tell whether a file is stored already, without reading it."""

    id: int
    uri: str
    size_bytes: int
    mtime_ns: int

    def is_as(self, stat: os.stat_result) -> bool:
        """Whether a file of that size and time is taken to be the stored one, without reading it."""
        return (self.size_bytes, self.mtime_ns) == (stat.st_size, stat.st_mtime_ns)


class Catalog:
    """One collection's database. Safe to use from several threads and processes at once.

    Attributes:
        url: where the database is.
        collection_id: the UUID it was given when it was made.
        space: the space it is pinned to, None before its first ingest.
        encoder_source: what `encoders.open` takes to make more vectors of that space.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.url: URL = engine.url
        self.space: Space | None = None
        self.encoder_source = ""
        self._space_id: int | None = None
        with engine.connect() as connection:
            self.collection_id: str = connection.execute(select(CollectionRow.uuid)).scalar_one()
            self._load_space(connection)

    @classmethod
    def open(cls, url: str | URL, *, create: bool = False, named: str | None = None) -> Catalog:
        """The catalog at a database URL.

        Args:
            url: ``sqlite:///path`` or ``postgresql://…``.
            create: make it if there is none.
            named: what messages call it, the database's own place by default.

        Raises:
            NoCollection: there is none, and `create` is not set.
            SchemaTooOld, SchemaTooNew: it does not fit this version.
            CatalogError: the database cannot be reached.
        """
        file = sqlite_file(url)
        named = named or place(parsed(url))
        if file is not None and not create and not file.is_file():
            raise NoCollection(f"no collection in {named} - make one with: e2vsearch ingest FOLDER --index {named}")
        engine = connect(url)
        try:
            reachable(engine)
            if create and schema.current(engine) is None:
                schema.upgrade(engine)
            schema.check(engine, named)
        except E2vsearchError:
            engine.dispose()
            raise
        with engine.connect() as connection:
            made = connection.execute(select(CollectionRow.id)).first() is not None
        if not made and not create:
            engine.dispose()
            raise NoCollection(f"{named} has tables and no collection yet - make one with: e2vsearch ingest FOLDER")
        if not made:
            row = {"id": 1, "uuid": str(uuid4()), "space_id": None, "created_at": _now()}
            # another process that makes the collection at the same moment has written its row first
            with suppress(IntegrityError), engine.execution_options(e2vsearch_writes=True).begin() as connection:
                connection.execute(insert(CollectionRow), [row])
        return cls(engine)

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    # -- the space ---------------------------------------------------------------------------------------------

    def pin(self, space: Space, source: str) -> None:
        """Pin the collection to a space, at its first ingest; later calls only check.

        Raises:
            SpaceMismatch: it is pinned to another one.
        """
        with self._write() as connection:
            connection.execute(select(CollectionRow.id).with_for_update())  # one process pins, the others wait and see
            self._load_space(connection)
            if self.space is None:
                row = {
                    "encoder": space.encoder,
                    "revision": space.revision,
                    "dim": space.dim,
                    "labels": list(space.labels),
                    "projection": space.projection,
                    "source": source,
                    "created_at": _now(),
                }
                number = connection.execute(insert(SpaceRow).returning(SpaceRow.id), [row]).scalar_one()
                connection.execute(update(CollectionRow).values(space_id=number))
                self._load_space(connection)
        self.check_space(space)

    def check_space(self, space: Space) -> None:
        """See that vectors of `space` belong here.

        Raises:
            SpaceMismatch: they do not; the message has both cures.
        """
        if self.space is not None and space != self.space:
            raise SpaceMismatch(
                f"this collection holds vectors of {self.space}, not of {space} - "
                f"go on with --encoder {self.encoder_source}, or start another collection with --index ANOTHER"
            )

    def feed(self) -> Feed:
        """The collection's vectors, for an index.

        Raises:
            NoCollection: nothing has been ingested yet.
        """
        if self.space is None:
            with self._engine.connect() as connection:
                self._load_space(connection)  # another process may have pinned it since
        if self.space is None:
            raise NoCollection(f"{place(self.url)} holds no recordings yet - add some with: e2vsearch ingest FOLDER")
        return Feed(self._engine, self.collection_id, self.space)

    # -- writing -----------------------------------------------------------------------------------------------

    def store(self, recording: NewRecording) -> Stored:
        """Store one recording with its segments, vectors and metadata.

        A recording of the same content is left as it is ("already"); one at the same URI with other content is
        replaced. A failure noted for the URI is taken back.

        Raises:
            CatalogError: the collection has no space yet.
            SpaceMismatch: vectors or scores of another size than the space's.
        """
        try:
            return self._store(recording)
        except IntegrityError:  # on Postgres another process may store the same content between our look and write
            return self._store(recording)

    def _store(self, recording: NewRecording) -> Stored:
        space = self._checked(recording)
        with self._write() as connection:
            connection.execute(delete(FailureRow).where(FailureRow.uri == recording.uri))
            # one look for both: between two, another process could commit, and its work be taken for an old version
            same, here = RecordingRow.content_sha256 == recording.content_sha256, RecordingRow.uri == recording.uri
            found = connection.execute(select(RecordingRow.id, same.label("same")).where(same | here)).all()
            for row in found:
                if row.same:
                    return Stored(row.id, "already")
            old = found[0].id if found else None
            if old is not None:
                delete_recordings(connection, [old])
            values = {
                "space_id": self._space_id,
                "content_sha256": recording.content_sha256,
                "uri": recording.uri,
                "name": recording.name,
                "size_bytes": recording.size_bytes,
                "mtime_ns": recording.mtime_ns,
                "recorded_at": recording.recorded_at,
                "added_at": recording.added_at or _now(),
                "duration_s": recording.duration_s,
                "channels": recording.channels,
                "sampling_rate_hz": recording.sampling_rate_hz,
                "format": recording.format,
                "note": recording.note,
            }
            number = connection.execute(insert(RecordingRow).returning(RecordingRow.id), [values]).scalar_one()
            set_metadata(connection, number, recording.metadata)
            insert_segments(connection, number, recording, space)
            return Stored(number, "stored" if old is None else "replaced")

    def relocate(self, number: int, uri: str, name: str, mtime_ns: int) -> None:
        """Note that a recording's file is now at `uri`; whatever else was stored from there is gone."""
        with self._write() as connection:
            other = select(RecordingRow.id).where(RecordingRow.uri == uri, RecordingRow.id != number)
            delete_recordings(connection, list(connection.execute(other).scalars()))
            connection.execute(
                update(RecordingRow).where(RecordingRow.id == number).values(uri=uri, name=name, mtime_ns=mtime_ns)
            )
            connection.execute(delete(FailureRow).where(FailureRow.uri == uri))

    def annotate(self, number: int, metadata: Mapping[str, str], recorded_at: datetime | None = None) -> None:
        """Set metadata of a stored recording; keys that are not named stay as they are."""
        with self._write() as connection:
            of_keys = (MetadataRow.recording_id == number) & MetadataRow.key.in_(list(metadata))
            connection.execute(delete(MetadataRow).where(of_keys))
            set_metadata(connection, number, metadata)
            if recorded_at is not None:
                query = update(RecordingRow).where(RecordingRow.id == number).values(recorded_at=recorded_at)
                connection.execute(query)

    def remove(self, numbers: Sequence[int]) -> int:
        """Remove recordings with all that belongs to them; gives how many there were."""
        removed = 0
        for start in range(0, len(numbers), _ROWS_PER_STATEMENT):
            with self._write() as connection:
                removed += delete_recordings(connection, list(numbers[start : start + _ROWS_PER_STATEMENT]))
        return removed

    def fail(self, uri: str, reason: str, message: str) -> None:
        """Note that a file could not be ingested, once a URI, with the number of attempts."""
        with self._write() as connection:
            values = {"reason": reason, "message": message, "failed_at": _now()}
            query = update(FailureRow).where(FailureRow.uri == uri)
            changed = connection.execute(query.values(**values, attempts=FailureRow.attempts + 1))
            if changed.rowcount == 0:
                connection.execute(insert(FailureRow), [{**values, "uri": uri, "attempts": 1}])

    def forgive(self, uris: Iterable[str]) -> None:
        """Take back noted failures."""
        with self._write() as connection:
            for uri in uris:
                connection.execute(delete(FailureRow).where(FailureRow.uri == uri))

    # -- reading -----------------------------------------------------------------------------------------------

    def known(self) -> dict[str, Known]:
        """What is stored, by URI."""
        columns = (
            RecordingRow.uri,
            RecordingRow.id,
            RecordingRow.size_bytes,
            RecordingRow.mtime_ns,
        )
        with self._engine.connect() as connection:
            return {
                row.uri: Known(row.id, row.uri, row.size_bytes, row.mtime_ns)
                for row in connection.execute(select(*columns))
            }

    def known_content(self, content_sha256: str) -> Known | None:
        """The recording of that content."""
        columns = (RecordingRow.id, RecordingRow.uri, RecordingRow.size_bytes, RecordingRow.mtime_ns)
        query = select(*columns).where(RecordingRow.content_sha256 == content_sha256)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else Known(*row)

    def recordings(self, numbers: Sequence[int] | None = None) -> Iterator[tuple[int, Recording]]:
        """Recordings by number, all of them by default, in order of their ids."""
        for rows in self._pages(select(RecordingRow.__table__), RecordingRow.id, numbers):
            metadata = self._metadata([row.id for row in rows])
            for row in rows:
                yield row.id, to_recording(row, metadata.get(row.id, {}))

    def segments(self, numbers: Sequence[int] | None = None) -> Iterator[tuple[int, Segment]]:
        """Segments by number, all of them by default, in order of their ids."""
        labels = self.space.labels if self.space else ()
        for rows in self._pages(select(SegmentRow.__table__), SegmentRow.id, numbers):
            for row in rows:
                yield row.id, to_segment(row, labels)

    def segments_of(self, recordings: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Segments of some recordings: their ids, ascending, and the recording of each."""
        query = select(SegmentRow.id, SegmentRow.recording_id)
        found: list[tuple[int, int]] = []
        with self._engine.connect() as connection:
            for start in range(0, len(recordings), _ROWS_PER_STATEMENT):
                part = SegmentRow.recording_id.in_(list(recordings[start : start + _ROWS_PER_STATEMENT]))
                found.extend((row.id, row.recording_id) for row in connection.execute(query.where(part)))
        pairs = np.array(sorted(found), np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def select(self, where: str) -> NDArray[np.int64]:
        """Ids of the segments that meet a filter, ascending.

        Raises:
            BadFilter: it does not parse, or names nothing known.
        """
        query = select(SegmentRow.id).where(self._condition(where)).order_by(SegmentRow.id)
        with self._engine.connect() as connection:
            return np.array(connection.execute(query).scalars().all(), np.int64)

    def recordings_where(self, where: str) -> list[int]:
        """Ids of the recordings with a segment that meets a filter."""
        query = select(SegmentRow.recording_id).where(self._condition(where)).distinct()
        with self._engine.connect() as connection:
            return sorted(connection.execute(query).scalars())

    def metadata_keys(self) -> frozenset[str]:
        """Every key that some recording has."""
        with self._engine.connect() as connection:
            return frozenset(connection.execute(select(MetadataRow.key).distinct()).scalars())

    def failures(self) -> list[Failure]:
        """Files that could not be ingested, the latest last."""
        query = select(FailureRow.__table__).order_by(FailureRow.failed_at, FailureRow.id)
        with self._engine.connect() as connection:
            return [
                Failure(row.uri, row.reason, row.message, row.attempts, row.failed_at)
                for row in connection.execute(query)
            ]

    def segment_count(self) -> int:
        """How many segments there are."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(SegmentRow)).scalar_one()

    def counts(self) -> Counts:
        """How much the collection holds."""
        with self._engine.connect() as connection:
            recordings, audio_s = connection.execute(
                select(func.count(), func.coalesce(func.sum(RecordingRow.duration_s), 0.0)).select_from(RecordingRow)
            ).one()
            spoken = select(SegmentRow.recording_id).distinct()
            silent = connection.execute(
                select(func.count()).select_from(RecordingRow).where(RecordingRow.id.not_in(spoken))
            ).scalar_one()
            length = func.coalesce(func.sum(SegmentRow.end_s - SegmentRow.start_s), 0.0)
            segments, speech_s = connection.execute(select(func.count(), length).select_from(SegmentRow)).one()
            failures = connection.execute(select(func.count()).select_from(FailureRow)).scalar_one()
            by_label = select(SegmentRow.label, func.count().label("n")).where(SegmentRow.label.is_not(None))
            emotions = connection.execute(by_label.group_by(SegmentRow.label).order_by(func.count().desc()))
            by_emotion = {row.label: row.n for row in emotions}
        return Counts(recordings, silent, segments, audio_s, speech_s, failures, by_emotion)

    # -- inside ------------------------------------------------------------------------------------------------

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        try:
            with self._engine.execution_options(e2vsearch_writes=True).begin() as connection:
                yield connection
        except OperationalError as error:  # disk full, read-only, locked for too long, server gone
            raise CatalogError(
                f"{place(self.url)} cannot be written: {first_line(error)} - mend that, then go on"
            ) from error

    def _load_space(self, connection: Connection) -> None:
        pinned = select(SpaceRow.__table__).join(CollectionRow, CollectionRow.space_id == SpaceRow.id)
        row = connection.execute(pinned).one_or_none()
        if row is not None:
            self.space = Space(row.encoder, row.revision, row.dim, tuple(row.labels), row.projection)
            self.encoder_source = row.source
            self._space_id = row.id

    def _checked(self, recording: NewRecording) -> Space:
        if self.space is None:
            raise CatalogError("the collection is pinned to no space yet: call Catalog.pin before Catalog.store")
        for segment in recording.segments:
            scores = segment.scores
            if segment.vector.shape != (self.space.dim,) or (
                scores is not None and scores.shape != (len(self.space.labels),)
            ):
                raise SpaceMismatch(
                    f"{recording.uri}: a vector of shape {segment.vector.shape} does not fit this collection of "
                    f"{self.space} - use the encoder it was made with, or another collection"
                )
        return self.space

    def _condition(self, where: str) -> Any:
        from e2vsearch.catalog.filters import compile_filter  # the parser takes 40 ms to import

        return compile_filter(where, self.metadata_keys())

    def _pages(self, query: Select[Any], key: Any, numbers: Sequence[int] | None) -> Iterator[Sequence[Row[Any]]]:
        with self._engine.connect() as connection:
            if numbers is not None:
                wanted = sorted(set(numbers))
                for start in range(0, len(wanted), _ROWS_PER_STATEMENT):
                    part = key.in_(wanted[start : start + _ROWS_PER_STATEMENT])
                    yield connection.execute(query.where(part).order_by(key)).all()
                return
            last = 0
            while rows := connection.execute(query.where(key > last).order_by(key).limit(_ROWS_PER_STATEMENT)).all():
                yield rows
                last = rows[-1].id

    def _metadata(self, recordings: Sequence[int]) -> dict[int, dict[str, str]]:
        found: dict[int, dict[str, str]] = {}
        query = select(MetadataRow.recording_id, MetadataRow.key, MetadataRow.text)
        query = query.where(MetadataRow.recording_id.in_(recordings)).order_by(MetadataRow.key)
        with self._engine.connect() as connection:
            for number, key, value in connection.execute(query):
                found.setdefault(number, {})[key] = value
        return found


def number_of(identifier: str, kind: Literal["call", "seg"]) -> int:
    """``"call:45"`` → 45.

    Raises:
        NotStored: it is not an id of that kind.
    """
    prefix, _, digits = identifier.partition(":")
    if prefix != kind or not digits.isdigit():
        raise NotStored(f"{identifier!r} is no id - write {kind}:NUMBER, as e2vsearch query shows it")
    return int(digits)


def _now() -> datetime:
    return datetime.now(UTC)
