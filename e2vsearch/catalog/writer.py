"""Writes recordings: every method that writes is one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from e2vsearch.catalog import audit, row_checksums
from e2vsearch.catalog import upgrade as schema
from e2vsearch.catalog.changes import Feed
from e2vsearch.catalog.database import (
    chunks,
    connect,
    is_file,
    make_folder,
    parse_url,
    place,
    reachable,
    retried_on_conflict,
    sqlite_file,
    write_error,
)
from e2vsearch.catalog.dynamics import course_of_segments, insert_dynamics
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.rows import (
    Lease,
    NewRecording,
    delete_recordings,
    end_job,
    insert_segments,
    note_failure,
    segment_rows,
    set_metadata,
)
from e2vsearch.catalog.schema import FailureRow, HeaderRow, MetadataRow, RecordingRow, SpaceRow, VectorRow
from e2vsearch.catalog.space_check import check_space_in_use, mismatch
from e2vsearch.catalog.sqlite import explain
from e2vsearch.errors import CatalogError, NoCollection, SpaceMismatch, first_line
from e2vsearch.policy import Policy
from e2vsearch.types import Space, recording_id


@dataclass(frozen=True, slots=True)
class Stored:
    """The outcome of `Catalog.store`."""

    id: int
    outcome: Literal["stored", "replaced", "already"]


class Catalog(CatalogReader):
    """One collection's database, to be read and written; safe to use from several threads and processes."""

    def __init__(self, engine: Engine, name: str) -> None:
        super().__init__(engine)
        self.name = name
        self._feed: tuple[int | None, Feed] | None = None  # with the space that it is of

    @classmethod
    def open(cls, url: str | URL, *, create: bool = False, name: str | None = None) -> Catalog:
        """Open the catalog at a database URL.

        Args:
            url: ``sqlite:///path`` or ``postgresql://…``.
            create: make it if there is none, with the folder that it lies in.
            name: for messages, the location of the database by default.

        Raises:
            NoCollection: there is none, and `create` is not set.
            SchemaTooOld, SchemaTooNew: it does not fit this version.
            CatalogError: the database cannot be reached.
        """
        file = sqlite_file(url)
        name = name or place(parse_url(url))
        if file is not None and not create and not is_file(file):
            raise NoCollection(f"no collection in {name} - make one with: e2vsearch ingest FOLDER --index {name}")
        if file is not None and create and file.name:
            make_folder(file.parent)
        engine = connect(url)
        with ExitStack() as failed:
            failed.callback(engine.dispose)
            reachable(engine)
            if create and schema.current(engine) is None:
                schema.upgrade(engine)
            schema.check(engine, name)
            with engine.connect() as connection:
                made = connection.execute(select(HeaderRow.id)).first() is not None
            if not made and not create:
                raise NoCollection(f"{name} has tables and no collection yet - make one with: e2vsearch ingest FOLDER")
            if not made:
                row = {"id": 1, "uuid": str(uuid4()), "space_id": None, "created_at": datetime.now(UTC)}
                try:
                    # another process that makes the collection at the same moment has written its row first
                    with suppress(IntegrityError), engine.execution_options(e2vsearch_writes=True).begin() as writing:
                        writing.execute(insert(HeaderRow), [row])
                except OperationalError as error:
                    raise write_error(engine.url, error) from error
            catalog = cls(engine, name)
            failed.pop_all()
        return catalog

    def close(self) -> None:
        """Close all connections."""
        self.detector.close()
        self._engine.dispose()

    # -- the space ---------------------------------------------------------------------------------------------

    def follow(self, number: int | None) -> None:
        """Take the space in use, which is that of this number, for the collection's: another process may switch it."""
        if number != self.space_number and self._only is None:
            with self.reading() as connection:
                self._load_space(connection)

    def in_space(self, number: int) -> Self:
        """Return this catalog as it is in another space that it has vectors of, though not of all segments, perhaps."""
        other = copy(self)
        other._feed, other._only = None, number
        with self.reading() as connection:
            other._load_space(connection)
        return other

    def require_space(self) -> Space:
        """Return the space that the collection is pinned to.

        Raises:
            NoCollection: nothing has been ingested yet.
        """
        self.feed()  # reads the space again where another process has pinned it meanwhile
        if self.space is None:
            raise NoCollection(f"{self.name} holds no recordings yet - add some with: e2vsearch ingest FOLDER")
        return self.space

    def pin(self, space: Space, source: str) -> None:
        """Pin the collection to a space, at its first ingest; later calls only check.

        Raises:
            SpaceMismatch: it is pinned to another one.
        """
        with self.writing() as connection:
            connection.execute(select(HeaderRow.id).with_for_update())  # one process pins, the others wait and see
            self._load_space(connection)
            if self.space is None:
                row = {
                    "encoder": space.encoder,
                    "revision": space.revision,
                    "dim": space.dim,
                    "labels": list(space.labels),
                    "projection": space.projection,
                    "source": source,
                    "created_at": datetime.now(UTC),
                    "vectors": VectorRow.__tablename__,
                }
                number = connection.execute(insert(SpaceRow).returning(SpaceRow.id), [row]).scalar_one()
                connection.execute(update(HeaderRow).values(space_id=number))
                self._load_space(connection)
        self.check_space(space)

    def check_space(self, space: Space, source: str = "") -> None:
        """Check that vectors of a space may be stored here; `source` is what its encoder was opened by.

        Raises:
            SpaceMismatch: they may not; the message has both cures.
        """
        if self.space is not None and space != self.space:
            raise mismatch(self.space, self.encoder_source, space, source or space.encoder)

    def reference_embedding(self) -> NDArray[np.float32] | None:
        """Return the encoder's vector ``(dim,)`` of the reference clip, None where none is stored yet."""
        query = select(SpaceRow.reference_embedding).where(SpaceRow.id == self.space_number)
        with self.reading() as connection:
            found = connection.execute(query).scalar_one_or_none()
        return None if found is None else np.frombuffer(found, "<f4").astype(np.float32)

    def store_reference_embedding(self, vector: NDArray[np.float32]) -> None:
        """Store the encoder's vector ``(dim,)`` of the reference clip, unless there is one."""
        missing = (SpaceRow.id == self.space_number) & SpaceRow.reference_embedding.is_(None)
        with self.writing() as connection:
            values = {"reference_embedding": vector.astype("<f4").tobytes()}
            connection.execute(update(SpaceRow).where(missing).values(**values))

    def feed(self) -> Feed:
        """Return the collection's vectors, for an index.

        Raises:
            NoCollection: nothing has been ingested yet.
        """
        if self.space is None:
            with self.reading() as connection:
                self._load_space(connection)  # another process may have pinned it since
        if self.space is None:
            raise NoCollection(f"{place(self.url)} holds no recordings yet - add some with: e2vsearch ingest FOLDER")
        number, feed = self._feed or (None, None)
        if feed is None or number != self.space_number:
            parts = self._engine, self.collection_id, self.space, self.detector, self.vectors
            feed = Feed(*parts, partial=self._only is not None)
            self._feed = (self.space_number, feed)
        return feed

    # -- the policy --------------------------------------------------------------------------------------------

    def set_policy(self, changes: Mapping[str, Any], actor: str) -> Policy:
        """Set attributes of the policy, by their names; the others stay. The change is noted in the audit log.

        Raises:
            SettingsError: a name that no policy has, or a value that makes no sense; nothing is changed.
            CatalogError: the database cannot be written.
        """
        with self.writing() as connection:
            # one process changes it at a time, or the other's change would be lost
            stored = connection.execute(select(HeaderRow.policy).with_for_update()).scalar_one()
            policy = Policy.of({**(stored or {}), **changes})
            plain = policy.plain()
            connection.execute(update(HeaderRow).values(policy=plain))
            audit.append(connection, actor, "policy", {name: plain[name] for name in changes})
        return policy

    def audit(self, actor: str, action: str, request: Mapping[str, Any], results: Sequence[str] = ()) -> None:
        """Append to the audit log, which is kept where `policy` says so.

        Raises:
            CatalogError: it cannot be written, and what was found must not be shown then.
        """
        try:
            with self.writing() as connection:
                audit.append(connection, actor, action, request, results)
        except (CatalogError, SQLAlchemyError) as error:
            why = first_line(error)
            raise CatalogError(f"the audit log is on, so nothing is shown that it cannot note: {why}") from error

    # -- writing -----------------------------------------------------------------------------------------------

    @retried_on_conflict
    def store(self, recording: NewRecording, lease: Lease | None = None) -> Stored:
        """Store one recording with its segments, vectors and metadata.

        A recording of the same content stays as it is ("already"); one at the same URI with other content is
        replaced. A failure noted for the URI is deleted.

        Args:
            recording: what is stored.
            lease: of the worker that stores it. It is checked and its job is deleted in the same transaction: no
                worker stores anything after it has lost the lease, and no job outlives its recording.

        Raises:
            CatalogError: the collection has no space yet.
            SpaceMismatch: vectors or scores of another size than the space's.
            LeaseLost: the lease is another's now, or has run out.
            SpaceChanged: the collection was re-embedded since this catalog was opened.
        """
        space = self._checked(recording)
        segments = segment_rows(recording, space)
        with self.writing() as connection:
            check_space_in_use(connection, self.space_number, self.name)
            if lease is not None:
                end_job(connection, lease)
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
                "space_id": self.space_number,
                "content_sha256": recording.content_sha256,
                "uri": recording.uri,
                "name": recording.name,
                "size_bytes": recording.size_bytes,
                "mtime_ns": recording.mtime_ns,
                "recorded_at": recording.recorded_at,
                "added_at": recording.added_at or datetime.now(UTC),
                "duration_s": recording.duration_s,
                "channels": recording.channels,
                "sampling_rate_hz": recording.sampling_rate_hz,
                "format": recording.format,
                "note": recording.note,
                "roles": None if recording.roles is None else list(recording.roles),
                "course": course_of_segments(segments, recording.roles or [None] * recording.channels),
            }
            number = connection.execute(insert(RecordingRow).returning(RecordingRow.id), [values]).scalar_one()
            set_metadata(connection, number, recording.metadata)
            insert_segments(connection, number, segments, [each.vector for each in recording.segments], self.vectors)
            if recording.dynamics is not None:
                insert_dynamics(connection, number, recording.dynamics)
            return Stored(number, "stored" if old is None else "replaced")

    def relocate(self, number: int, uri: str, name: str, mtime_ns: int) -> None:
        """Note that a recording's file is now at `uri`; another recording that was stored from there is deleted."""
        with self.writing() as connection:
            other = select(RecordingRow.id).where(RecordingRow.uri == uri, RecordingRow.id != number)
            delete_recordings(connection, list(connection.execute(other).scalars()))
            values = {"uri": uri, "name": name, "mtime_ns": mtime_ns}
            row_checksums.RECORDING.update(connection, RecordingRow, number, values, recording_id(number))
            connection.execute(delete(FailureRow).where(FailureRow.uri == uri))

    def annotate(self, number: int, metadata: Mapping[str, str], recorded_at: datetime | None = None) -> None:
        """Set metadata of a stored recording; other keys stay as they are."""
        with self.writing() as connection:
            of_keys = (MetadataRow.recording_id == number) & MetadataRow.key.in_(list(metadata))
            connection.execute(delete(MetadataRow).where(of_keys))
            set_metadata(connection, number, metadata)
            if recorded_at is not None:
                values = {"recorded_at": recorded_at}
                row_checksums.RECORDING.update(connection, RecordingRow, number, values, recording_id(number))

    def remove(self, numbers: Sequence[int]) -> int:
        """Remove recordings with all that belongs to them, and return how many there were."""
        removed = 0
        for part in chunks(list(numbers)):
            with self.writing() as connection:
                removed += delete_recordings(connection, list(part))
        return removed

    def fail(self, uri: str, reason: str, message: str) -> None:
        """Note that a file could not be ingested, once a URI, with the number of attempts."""
        with self.writing() as connection:
            note_failure(connection, uri, reason, message)

    def clear_failures(self, uris: Iterable[str]) -> None:
        """Delete noted failures."""
        with self.writing() as connection:
            for uri in uris:
                connection.execute(delete(FailureRow).where(FailureRow.uri == uri))

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that writes.

        Raises:
            CatalogError: the database cannot be written.
        """
        try:
            with self._engine.execution_options(e2vsearch_writes=True).begin() as connection:
                yield connection
        except OperationalError as error:
            raise write_error(self.url, error) from error

    @contextmanager
    def driver_connection(self) -> Iterator[Any]:
        """Give a connection of the driver, in a transaction that is rolled back at the end unless it was committed."""
        with closing(self._engine.raw_connection()) as raw:
            yield raw.driver_connection

    @contextmanager
    def outside_transactions(self) -> Iterator[Callable[[str], Any]]:
        """Yield what executes a statement that no transaction may hold, such as VACUUM, and returns its cursor.

        Raises:
            CatalogError: the database cannot execute it.
        """
        try:
            if self._engine.dialect.name == "sqlite":  # SQLAlchemy would begin a transaction all the same
                with closing(self._engine.raw_connection()) as raw:
                    yield lambda statement: raw.cursor().execute(statement)
            else:
                with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    yield connection.exec_driver_sql
        except (sqlite3.Error, DBAPIError) as error:  # disk full, locked for too long, server gone
            file = sqlite_file(self.url)
            known = explain(error, file, "rewritten") if file is not None else None
            raise CatalogError(
                known or f"{place(self.url)} cannot be rewritten: {first_line(error)} - fix that, then go on"
            ) from error

    # -- inside ------------------------------------------------------------------------------------------------

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
