"""Reading what is stored. Knows rows, and changes none of them."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
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

from e2vsearch.catalog.changes import ChangeDetector
from e2vsearch.catalog.database import ROWS_PER_STATEMENT, parts
from e2vsearch.catalog.schema import (
    CollectionRow,
    FailureRow,
    LabelExampleRow,
    MetadataRow,
    RecordingRow,
    SegmentLabelRow,
    SegmentRow,
    SegmentTextRow,
    SpaceRow,
)
from e2vsearch.types import Counts, Failure, Recording, Segment, Space, recording_id, segment_id

_SOME: BindParameter[Any] = bindparam("numbers", expanding=True)

# made once, for every query runs them: see `feed`
_RECORDINGS = select(RecordingRow.__table__).order_by(RecordingRow.id)

_SEGMENTS = select(SegmentRow.__table__).order_by(SegmentRow.id)

_METADATA = (
    select(MetadataRow.recording_id, MetadataRow.key, MetadataRow.text)
    .where(MetadataRow.recording_id.in_(_SOME))
    .order_by(MetadataRow.key)
)

_TEXT, _BY_CLASSIFIER, _BY_PERSON = range(3)


def _saying(source: int, segment: Any, words: Any, score: Any) -> Select[Any]:
    return select(literal_column(str(source)).label("source"), segment, words, score).where(segment.in_(_SOME))


# in one statement: three take 0.2 ms more. Of several, the last is taken: what people say before any classifier, and
# of those the surest
_SAID = union_all(
    _saying(_TEXT, SegmentTextRow.segment_id, SegmentTextRow.text, cast(null(), Float)),
    _saying(_BY_CLASSIFIER, SegmentLabelRow.segment_id, SegmentLabelRow.label, SegmentLabelRow.score),
    _saying(_BY_PERSON, LabelExampleRow.segment_id, LabelExampleRow.label, cast(literal_column("1.0"), Float)),
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

_Beside = Callable[[Connection, Sequence[int]], _ByNumber]
"""What other tables have of some rows, by number."""

_RECORDING_PAGES = _Paged.of(_RECORDINGS, RecordingRow.id)

_SEGMENT_PAGES = _Paged.of(_SEGMENTS, SegmentRow.id)


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


class CatalogReader:
    """One collection's database, as those who only look at it need it.

    Attributes:
        url: where the database is.
        collection_id: the UUID it was given when it was made.
        space: the space it is pinned to, None before its first ingest.
        encoder_source: what `encoders.open` takes to make more vectors of that space.
        watch: whether anything changed.
        choices: what filters left lately.
        used_projection: its name and revision, as `projections.used` read them last.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.url: URL = engine.url
        self.space: Space | None = None
        self.encoder_source = ""
        self.space_number: int | None = None  # of `space`, as rows of other tables name it
        self.watch = ChangeDetector(engine)
        self.choices = FilterCache(self.watch)
        self.used_projection: tuple[Hashable, tuple[str, str] | None] | None = None
        with engine.connect() as connection:
            self.collection_id: str = connection.execute(select(CollectionRow.uuid)).scalar_one()
            self._load_space(connection)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read with."""
        with self._engine.connect() as connection:
            yield connection

    def known(self) -> dict[str, Known]:
        """What is stored, by URI."""
        columns = (
            RecordingRow.uri,
            RecordingRow.id,
            RecordingRow.size_bytes,
            RecordingRow.mtime_ns,
        )
        with self.reading() as connection:
            return {
                row.uri: Known(row.id, row.uri, row.size_bytes, row.mtime_ns)
                for row in connection.execute(select(*columns))
            }

    def known_content(self, content_sha256: str) -> Known | None:
        """The recording of that content."""
        columns = (RecordingRow.id, RecordingRow.uri, RecordingRow.size_bytes, RecordingRow.mtime_ns)
        query = select(*columns).where(RecordingRow.content_sha256 == content_sha256)
        with self.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else Known(*row)

    def recordings(self, numbers: Sequence[int] | None = None) -> Iterator[tuple[int, Recording]]:
        """Recordings by number, all of them by default, in order of their ids."""
        for rows, metadata in self._pages(_RECORDING_PAGES, numbers, _metadata):
            for row in rows:
                yield row.id, to_recording(row, metadata.get(row.id, {}))

    def segments(self, numbers: Sequence[int] | None = None) -> Iterator[tuple[int, Segment]]:
        """Segments by number, all of them by default, in order of their ids."""
        labels = self.space.labels if self.space else ()
        for rows, said in self._pages(_SEGMENT_PAGES, numbers, _said):
            for row in rows:
                yield row.id, to_segment(row, labels, said.get(row.id))

    def segments_of(self, recordings: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Segments of some recordings: their ids, ascending, and the recording of each."""
        query = select(SegmentRow.id, SegmentRow.recording_id)
        found: list[tuple[int, int]] = []
        with self.reading() as connection:
            for part in parts(list(recordings)):
                of_part = query.where(SegmentRow.recording_id.in_(part))
                found.extend((row.id, row.recording_id) for row in connection.execute(of_part))
        pairs = np.array(sorted(found), np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def select(self, where: str) -> NDArray[np.int64]:
        """Ids of the segments that meet a filter, ascending; an array that cannot be written to.

        Raises:
            BadFilter: it does not parse, or names nothing known.
        """
        return self.choices.of(("where", where), lambda: self.ids(select(SegmentRow.id).where(self.condition(where))))

    def ids(self, query: Select[Any]) -> NDArray[np.int64]:
        """The one column of whole numbers that a statement gives, ascending."""
        with self.reading() as connection:
            # the driver's own rows, in any order: 500,000 of 1,000,000 take 0.16 s so, through SQLAlchemy and in
            # SQLite's order 0.6 s
            rows = as_type("Iterable[tuple[int]]", connection.execute(query).cursor)
            found = np.fromiter((row[0] for row in rows), np.int64)
        found.sort()
        return found

    def recordings_where(self, where: str) -> list[int]:
        """Ids of the recordings with a segment that meets a filter."""
        query = select(SegmentRow.recording_id).where(self.condition(where)).distinct()
        with self.reading() as connection:
            return sorted(connection.execute(query).scalars())

    def metadata_keys(self) -> frozenset[str]:
        """Every key that some recording has."""
        with self.reading() as connection:
            return frozenset(connection.execute(select(MetadataRow.key).distinct()).scalars())

    def failures(self) -> list[Failure]:
        """Files that could not be ingested, the latest last."""
        query = select(FailureRow.__table__).order_by(FailureRow.failed_at, FailureRow.id)
        with self.reading() as connection:
            return [
                Failure(row.uri, row.reason, row.message, row.attempts, row.failed_at)
                for row in connection.execute(query)
            ]

    def segment_count(self) -> int:
        """How many segments there are."""
        with self.reading() as connection:
            return connection.execute(select(func.count()).select_from(SegmentRow)).scalar_one()

    def counts(self) -> Counts:
        """How much the collection holds."""
        with self.reading() as connection:
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

    def condition(self, where: str) -> Any:
        """A filter as a SQL condition on `SegmentRow`.

        Raises:
            BadFilter: it does not parse, or names nothing known.
        """
        from e2vsearch.catalog.filters import compile_filter  # the parser takes 40 ms to import

        return compile_filter(where, self.metadata_keys())

    def _load_space(self, connection: Connection) -> None:
        pinned = select(SpaceRow.__table__).join(CollectionRow, CollectionRow.space_id == SpaceRow.id)
        row = connection.execute(pinned).one_or_none()
        if row is not None:
            self.space = Space(row.encoder, row.revision, row.dim, tuple(row.labels), row.projection)
            self.encoder_source = row.source
            self.space_number = row.id

    def _pages(
        self, statement: _Paged, numbers: Sequence[int] | None, beside: _Beside
    ) -> Iterator[tuple[Sequence[Row[Any]], _ByNumber]]:
        with self.reading() as connection:
            if numbers is not None:
                wanted = sorted(set(numbers))
                for part in parts(wanted):
                    rows = connection.execute(statement.some, {"numbers": part}).all()
                    yield rows, beside(connection, part)
                return
            last = 0
            while rows := connection.execute(statement.next, {"last": last}).all():
                yield rows, beside(connection, [row.id for row in rows])
                last = rows[-1].id


def _metadata(connection: Connection, recordings: Sequence[int]) -> _ByNumber:
    found: _ByNumber = {}
    for number, key, value in connection.execute(_METADATA, {"numbers": recordings}):
        found.setdefault(number, {})[key] = value
    return found


def _said(connection: Connection, segments: Sequence[int]) -> _ByNumber:
    """What people, classifiers and transcripts say of segments: `text`, `label` and `label_score` of each."""
    found: _ByNumber = {}
    for source, number, words, score in connection.execute(_SAID, {"numbers": segments}):
        said = {"text": words} if source == _TEXT else {"label": words, "label_score": score}
        found.setdefault(number, {}).update(said)
    return found


_MOST_IDS = 4_000_000  # kept over all conditions: 32 MB


class FilterCache:
    """What was chosen by each condition lately; any number of threads may ask."""

    def __init__(self, watch: ChangeDetector) -> None:
        """Asks the database nothing yet."""
        self._watch = watch
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, tuple[Hashable, NDArray[np.int64]]] = OrderedDict()

    def of(self, condition: Hashable, choose: Callable[[], NDArray[np.int64]]) -> NDArray[np.int64]:
        """What a condition leaves, not to be written to: the very array given before, where nothing changed since.

        Args:
            condition: what tells it from others.
            choose: looks it up.
        """
        # taken before it is looked up: too old a state only looks again. The day counts, for a filter may say "today"
        state = (datetime.now(UTC).date(), self._watch.state())
        with self._lock:
            before, ids = self._known.get(condition, (None, None))
            if ids is not None and before == state:
                self._known.move_to_end(condition)
                return ids
        ids = choose()
        ids.flags.writeable = False
        with self._lock:
            self._known[condition] = state, ids
            self._known.move_to_end(condition)
            while sum(len(each) for _, each in self._known.values()) > _MOST_IDS:
                self._known.popitem(last=False)
        return ids


def to_recording(row: Row[Any], metadata: Mapping[str, str]) -> Recording:
    """A row of `RecordingRow` and its metadata as what the catalog gives."""
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
    )


def to_segment(row: Row[Any], labels: tuple[str, ...], said: Mapping[str, Any] | None = None) -> Segment:
    """A row of `SegmentRow` as what the catalog gives; `labels` are its space's, `said` what others say of it."""
    scores = {} if row.scores is None else dict(zip(labels, np.frombuffer(row.scores, "<f4").tolist(), strict=True))
    return Segment(
        id=segment_id(row.id),
        recording=recording_id(row.recording_id),
        channel=row.channel,
        start_s=row.start_s,
        end_s=row.end_s,
        emotion=row.label,
        emotion_score=row.label_score,
        scores=scores,
        arousal=row.arousal,
        valence=row.valence,
        level_db=row.level_db,
        **(said or {}),
    )
