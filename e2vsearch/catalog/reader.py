"""Reads recordings and segments, and caches the results of filters."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from typing import cast as as_type

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    BindParameter,
    Connection,
    Engine,
    Float,
    Row,
    Select,
    bindparam,
    cast,
    func,
    literal_column,
    null,
    select,
    union_all,
)
from sqlalchemy.engine import URL

from e2vsearch.catalog import row_checksums
from e2vsearch.catalog.beside import VECTOR_TABLES, VectorTable
from e2vsearch.catalog.cells import date_error
from e2vsearch.catalog.changes import ChangeDetector
from e2vsearch.catalog.columns import integers, to_probabilities
from e2vsearch.catalog.database import ROWS_PER_STATEMENT, chunks, driver_errors, filtering
from e2vsearch.catalog.filter_cache import FilterCache
from e2vsearch.catalog.schema import (
    FailureRow,
    HeaderRow,
    LabelExampleRow,
    MetadataRow,
    RecordingRow,
    SegmentLabelRow,
    SegmentRow,
    SegmentTextRow,
    SpaceRow,
    VectorRow,
)
from e2vsearch.catalog.sqlite import READ_ONLY
from e2vsearch.catalog.stored_file import STORED_FILE, StoredFile
from e2vsearch.errors import DamagedDate
from e2vsearch.policy import Policy
from e2vsearch.types import Counts, Failure, Recording, Segment, Space, recording_id, segment_id

_SOME: BindParameter[Any] = bindparam("numbers", expanding=True)

# made once, since every query runs them: see `changes`
_RECORDINGS = select(RecordingRow.__table__).order_by(RecordingRow.id)
_SEGMENTS = select(SegmentRow.__table__).order_by(SegmentRow.id)
_METADATA = select(MetadataRow.__table__).where(MetadataRow.recording_id.in_(_SOME)).order_by(MetadataRow.key)

_TEXT, _BY_CLASSIFIER, _BY_PERSON = range(3)


def _annotation(source: int, row: Any, words: Any, score: Any) -> Select[Any]:
    by: Any = literal_column(str(source)).label("source")
    return select(by, row.segment_id, words, score, row.crc32).where(row.segment_id.in_(_SOME))


# in one statement: three take 0.2 ms more. The last row of a segment counts: a person's label before any
# classifier's, and of those the most confident
_ANNOTATIONS = union_all(
    _annotation(_TEXT, SegmentTextRow, SegmentTextRow.text, cast(null(), Float)),
    _annotation(_BY_CLASSIFIER, SegmentLabelRow, SegmentLabelRow.label, SegmentLabelRow.score),
    _annotation(_BY_PERSON, LabelExampleRow, LabelExampleRow.label, cast(literal_column("1.0"), Float)),
).order_by(literal_column("1"), literal_column("4"))


@dataclass(frozen=True, slots=True)
class _Paged:
    """One statement over a table, for all of its rows and for some of them."""

    some: Select[Any]
    next: Select[Any]

    @classmethod
    def of(cls, query: Select[Any], key: Any) -> _Paged:
        return cls(query.where(key.in_(_SOME)), query.where(key > bindparam("last")).limit(ROWS_PER_STATEMENT))


_ByNumber = dict[int, dict[str, Any]]
_Rows = dict[int, tuple[Row[Any], dict[str, Any]]]  # with columns of other tables
_Related = Callable[[Connection, Sequence[int]], _ByNumber]  # columns of other tables for some rows, by number

_RECORDING_PAGES = _Paged.of(_RECORDINGS, RecordingRow.id)
_SEGMENT_PAGES = _Paged.of(_SEGMENTS, SegmentRow.id)


class CatalogReader:
    """One collection's database, to be read.

    Attributes:
        url: where the database is.
        collection_id: the UUID it was given when it was made.
        space: the space it is pinned to, None before its first ingest.
        vectors: the table of that space's vectors.
        encoder_source: what `encoders.open` takes to make more vectors of that space.
        detector: of commits.
        filter_cache: segments that met recent filters.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.url: URL = engine.url
        self.space: Space | None = None
        self.encoder_source = ""
        self.space_number: int | None = None  # of `space`, as rows of other tables name it
        self.vectors: VectorTable = VectorRow
        self._only: int | None = None  # the space that this catalog is a view of; None: the one in use
        self.detector = ChangeDetector(engine)
        self.filter_cache = FilterCache(self.detector)
        self._policy: tuple[Hashable, Policy] | None = None  # with the state that it is of
        with engine.connect() as connection:
            self.collection_id: str = connection.execute(select(HeaderRow.uuid)).scalar_one()
            self._load_space(connection)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection to read with.

        Raises:
            DamagedDate: a date that was read inside is none; the message names its row.
        """
        with self._engine.connect() as connection:
            try:
                yield connection
            except DamagedDate as error:
                raise date_error(connection, error) from error

    @property
    def policy(self) -> Policy:
        """What the collection is for, and what may be done with it; read anew once anything was committed."""
        self._policy = self.detector.cached(self._policy, self._read_policy)
        return self._policy[1]

    def _read_policy(self) -> Policy:
        with self.reading() as connection:
            return Policy.of(connection.execute(select(HeaderRow.policy)).scalar_one())

    @property
    def read_only(self) -> str | None:
        """Why nothing can be written, with the cure; None where it can be, as far as was seen."""
        with self.reading() as connection:
            found: str | None = connection.info.get(READ_ONLY)
            return found

    def stored_files(self, uris: Sequence[str] | None = None) -> dict[str, StoredFile]:
        """Return the files of the recordings at some URIs, of all by default, by URI."""
        parts = (STORED_FILE.where(RecordingRow.uri.in_(part)) for part in chunks(uris or ()))
        with self.reading() as connection:
            rows = (row for part in ([STORED_FILE] if uris is None else parts) for row in connection.execute(part))
            return {row.uri: StoredFile.of(row) for row in rows}

    def file_of_content(self, content_sha256: str) -> StoredFile | None:
        """Return the file of the recording with that content."""
        with self.reading() as connection:
            row = connection.execute(STORED_FILE.where(RecordingRow.content_sha256 == content_sha256)).first()
        return None if row is None else StoredFile.of(row)

    def recordings(
        self, numbers: Sequence[int] | None = None, *, damaged: bool = False
    ) -> Iterator[tuple[int, Recording]]:
        """Yield recordings by number, all of them by default, in order of their ids.

        Raises:
            DamagedRow: a row of one of them is not what was stored; with `damaged` they are yielded, to be removed.
        """
        for rows, metadata in self._pages(_RECORDING_PAGES, numbers, partial(_metadata, damaged=damaged)):
            if not damaged:
                row_checksums.RECORDING.check(rows, lambda row: recording_id(row.id))
            for row in rows:
                yield row.id, to_recording(row, metadata.get(row.id, {}))

    def segments(self, numbers: Sequence[int] | None = None) -> Iterator[tuple[int, Segment]]:
        """Yield segments by number, all of them by default, in order of their ids.

        Raises:
            DamagedRow: one of them, its text or a label of it is not what was stored.
        """
        labels = self.space.labels if self.space else ()
        for rows, columns in self._pages(_SEGMENT_PAGES, numbers, _annotations):
            row_checksums.SEGMENT.check(rows, lambda row: segment_id(row.id))
            for row in rows:
                yield row.id, to_segment(row, labels, columns.get(row.id))

    def rows_of_segments(self, numbers: Sequence[int]) -> tuple[_Rows, _Rows]:
        """Return the rows of segments and of their recordings, by number, as `segments` and `recordings` read them.

        For the hits of a query: to make objects of them takes half as long as to read them.
        """
        with self.reading() as connection:
            segments, recordings = _Rows(), _Rows()
            for part in chunks(sorted(set(numbers))):
                rows = connection.execute(_SEGMENT_PAGES.some, {"numbers": part}).all()
                row_checksums.SEGMENT.check(rows, lambda row: segment_id(row.id))
                others = _annotations(connection, part)
                segments |= {row.id: (row, others.get(row.id, {})) for row in rows}
            for part in chunks(sorted({row.recording_id for row, _ in segments.values()})):
                rows = connection.execute(_RECORDING_PAGES.some, {"numbers": part}).all()
                row_checksums.RECORDING.check(rows, lambda row: recording_id(row.id))
                metadata = _metadata(connection, part, damaged=False)
                recordings |= {row.id: (row, metadata.get(row.id, {})) for row in rows}
        return segments, recordings

    def segments_of(self, recordings: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the segments of some recordings: their ids, ascending, and the recording of each."""
        query = select(SegmentRow.id, SegmentRow.recording_id)
        found: list[tuple[int, int]] = []
        with self.reading() as connection:
            for part in chunks(list(recordings)):
                of_part = query.where(SegmentRow.recording_id.in_(part))
                found.extend((row.id, row.recording_id) for row in connection.execute(of_part))
        pairs = integers(found).reshape(-1, 2)
        pairs = pairs[np.argsort(pairs[:, 0])]
        return pairs[:, 0], pairs[:, 1]

    def select(self, where: str) -> NDArray[np.int64]:
        """Return the ids of the segments that meet a filter, ascending; the array cannot be written to.

        Raises:
            BadFilter: it does not parse, or names nothing known.
        """
        with filtering():
            return self.filter_cache.of(
                ("where", where), lambda: self.ids(select(SegmentRow.id).where(self.condition(where)))
            )

    def ids(self, query: Select[Any]) -> NDArray[np.int64]:
        """Return the one column of whole numbers of a statement, ascending."""
        with self.reading() as connection, driver_errors(self.url):
            # the driver's own rows, in any order: 500,000 of 1,000,000 take 0.16 s so, through SQLAlchemy and in
            # SQLite's order 0.6 s
            rows = as_type("Iterable[tuple[int]]", connection.execute(query).cursor)
            found = np.fromiter((row[0] for row in rows), np.int64)
        found.sort()
        return found

    def recordings_where(self, where: str) -> list[int]:
        """Return the ids of the recordings with a segment that meets a filter."""
        query = select(SegmentRow.recording_id).where(self.condition(where, administer=True)).distinct()
        with filtering(), self.reading() as connection:
            return sorted(connection.execute(query).scalars())

    def metadata_keys(self) -> frozenset[str]:
        """Return every metadata key of any recording."""
        with self.reading() as connection:
            return frozenset(connection.execute(select(MetadataRow.key).distinct()).scalars())

    def failures(self) -> list[Failure]:
        """Return the files that could not be ingested, the latest last."""
        query = select(FailureRow.__table__).order_by(FailureRow.failed_at, FailureRow.id)
        with self.reading() as connection:
            return [
                Failure(row.uri, row.reason, row.message, row.attempts, row.failed_at)
                for row in connection.execute(query)
            ]

    def segment_count(self) -> int:
        """Return the number of segments."""
        with self.reading() as connection:
            return connection.execute(select(func.count()).select_from(SegmentRow)).scalar_one()

    def counts(self) -> Counts:
        """Return how many recordings, segments and failures there are."""
        with self.reading() as connection:
            recordings, audio_s = connection.execute(
                select(func.count(), func.coalesce(func.sum(RecordingRow.duration_s), 0.0)).select_from(RecordingRow)
            ).one()
            with_segments = select(SegmentRow.recording_id).distinct()
            silent = connection.execute(
                select(func.count()).select_from(RecordingRow).where(RecordingRow.id.not_in(with_segments))
            ).scalar_one()
            length = func.coalesce(func.sum(SegmentRow.end_s - SegmentRow.start_s), 0.0)
            segments, speech_s = connection.execute(select(func.count(), length).select_from(SegmentRow)).one()
            failures = connection.execute(select(func.count()).select_from(FailureRow)).scalar_one()
            by_label = select(SegmentRow.label, func.count().label("n")).where(SegmentRow.label.is_not(None))
            emotions = connection.execute(by_label.group_by(SegmentRow.label).order_by(func.count().desc()))
            by_emotion = {row.label: row.n for row in emotions}
        return Counts(recordings, silent, segments, audio_s, speech_s, failures, by_emotion)

    def condition(self, where: str, *, administer: bool = False) -> Any:
        """Compile a filter to a SQL condition on `SegmentRow`.

        Args:
            where: the filter.
            administer: whether recordings are chosen to be listed, removed or exported, and not by how somebody feels.

        Raises:
            BadFilter: it does not parse, or names nothing known.
            UnlawfulUse: emotion by employee, see `e2vsearch.policy`.
        """
        from e2vsearch.catalog.filters import EMOTION_FIELDS, compile_filter  # the parser takes 40 ms to import

        found = compile_filter(where, self.metadata_keys())
        if found.keys and (not administer or found.fields & EMOTION_FIELDS):
            self.policy.check_employees(found.keys)
        return found.condition

    def _load_space(self, connection: Connection) -> None:
        query = select(SpaceRow.__table__)
        used = query.join(HeaderRow, HeaderRow.space_id == SpaceRow.id)
        row = connection.execute(used if self._only is None else query.where(SpaceRow.id == self._only)).one_or_none()
        if row is not None:
            self.vectors = VECTOR_TABLES[row.vectors]
            self.space = Space(row.encoder, row.revision, row.dim, tuple(row.labels), row.projection)
            self.encoder_source = row.source
            self.space_number = row.id

    def _pages(
        self, statement: _Paged, numbers: Sequence[int] | None, related: _Related
    ) -> Iterator[tuple[Sequence[Row[Any]], _ByNumber]]:
        with self.reading() as connection:
            if numbers is not None:
                wanted = sorted(set(numbers))
                for part in chunks(wanted):
                    rows = connection.execute(statement.some, {"numbers": part}).all()
                    yield rows, related(connection, part)
                return
            last = 0
            while rows := connection.execute(statement.next, {"last": last}).all():
                yield rows, related(connection, [row.id for row in rows])
                last = rows[-1].id


def _metadata(connection: Connection, recordings: Sequence[int], *, damaged: bool) -> _ByNumber:
    rows = connection.execute(_METADATA, {"numbers": recordings}).all()
    if not damaged:
        row_checksums.METADATA.check(rows, lambda row: recording_id(row.recording_id))
    found: _ByNumber = {}
    for row in rows:
        found.setdefault(row.recording_id, {})[row.key] = row.text
    return found


def _annotations(connection: Connection, segments: Sequence[int]) -> _ByNumber:
    """Return `text`, `label` and `label_score` of segments, from transcripts, people and classifiers."""
    found: _ByNumber = {}
    for source, number, words, score, crc32 in connection.execute(_ANNOTATIONS, {"numbers": segments}):
        _check_annotation(source, number, words, score, crc32)
        columns = {"text": words} if source == _TEXT else {"label": words, "label_score": score}
        found.setdefault(number, {}).update(columns)
    return found


def _check_annotation(source: int, segment: int, words: str, score: float | None, crc32: int) -> None:
    of = (row_checksums.TEXT, row_checksums.PREDICTION, row_checksums.EXAMPLE)[source]
    values = ((segment, words), (segment, score, words), (segment, words, None))[source]
    if not of.matches(crc32, *values):
        raise of.damaged(segment_id(segment))


def to_recording(row: Row[Any], metadata: Mapping[str, str]) -> Recording:
    """Convert a row of `RecordingRow` and its metadata."""
    return Recording(
        id=recording_id(row.id),
        uri=row.uri,
        name=row.name,
        content_sha256=row.content_sha256,
        size_bytes=row.size_bytes,
        mtime_ns=row.mtime_ns,
        recorded_at=row.recorded_at,
        added_at=row.added_at,
        duration_s=row.duration_s,
        channels=row.channels,
        sampling_rate_hz=row.sampling_rate_hz,
        format=row.format,
        note=row.note,
        metadata=metadata,
        roles=None if row.roles is None else tuple(row.roles),
    )


def to_segment(row: Row[Any], labels: tuple[str, ...], others: Mapping[str, Any] | None = None) -> Segment:
    """Convert a row of `SegmentRow`, with the labels of its space and columns of other tables."""
    return Segment(
        id=segment_id(row.id),
        recording=recording_id(row.recording_id),
        channel=row.channel,
        start_s=row.start_s,
        end_s=row.end_s,
        emotion=row.label,
        emotion_score=row.label_score,
        scores=to_probabilities(row.scores, labels),
        arousal=row.arousal,
        valence=row.valence,
        level_db=row.level_db,
        **(others or {}),
    )
