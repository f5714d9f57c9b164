"""Reading what is stored. Knows rows, and changes none of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Row, Select, func, select
from sqlalchemy.engine import URL

from e2vsearch.catalog.records import Counts, Failure, Recording, Segment
from e2vsearch.catalog.rows import ROWS_PER_STATEMENT, parts, to_recording, to_segment
from e2vsearch.catalog.tables import (
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
from e2vsearch.space import Space


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


class Reading:
    """One collection's database, as those who only look at it need it.

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
        self.space_number: int | None = None  # of `space`, as rows of other tables name it
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
        for rows in self._pages(select(RecordingRow.__table__), RecordingRow.id, numbers):
            metadata = self._metadata([row.id for row in rows])
            for row in rows:
                yield row.id, to_recording(row, metadata.get(row.id, {}))

    def segments(self, numbers: Sequence[int] | None = None) -> Iterator[tuple[int, Segment]]:
        """Segments by number, all of them by default, in order of their ids."""
        labels = self.space.labels if self.space else ()
        for rows in self._pages(select(SegmentRow.__table__), SegmentRow.id, numbers):
            said = self._said([row.id for row in rows])
            for row in rows:
                yield row.id, replace(to_segment(row, labels), **said.get(row.id, {}))

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
        """Ids of the segments that meet a filter, ascending.

        Raises:
            BadFilter: it does not parse, or names nothing known.
        """
        query = select(SegmentRow.id).where(self.condition(where)).order_by(SegmentRow.id)
        with self.reading() as connection:
            return np.array(connection.execute(query).scalars().all(), np.int64)

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

    def _pages(self, query: Select[Any], key: Any, numbers: Sequence[int] | None) -> Iterator[Sequence[Row[Any]]]:
        with self.reading() as connection:
            if numbers is not None:
                wanted = sorted(set(numbers))
                for part in parts(wanted):
                    yield connection.execute(query.where(key.in_(part)).order_by(key)).all()
                return
            last = 0
            while rows := connection.execute(query.where(key > last).order_by(key).limit(ROWS_PER_STATEMENT)).all():
                yield rows
                last = rows[-1].id

    def _metadata(self, recordings: Sequence[int]) -> dict[int, dict[str, str]]:
        found: dict[int, dict[str, str]] = {}
        query = select(MetadataRow.recording_id, MetadataRow.key, MetadataRow.text)
        query = query.where(MetadataRow.recording_id.in_(recordings)).order_by(MetadataRow.key)
        with self.reading() as connection:
            for number, key, value in connection.execute(query):
                found.setdefault(number, {})[key] = value
        return found

    def _said(self, segments: Sequence[int]) -> dict[int, dict[str, Any]]:
        """What people, classifiers and transcripts say of segments: `text`, `label` and `label_score` of each."""
        found: dict[int, dict[str, Any]] = {}
        texts = select(SegmentTextRow.segment_id, SegmentTextRow.text).where(SegmentTextRow.segment_id.in_(segments))
        of_classifiers = select(SegmentLabelRow.segment_id, SegmentLabelRow.label, SegmentLabelRow.score)
        of_classifiers = of_classifiers.where(SegmentLabelRow.segment_id.in_(segments))
        of_people = select(LabelExampleRow.segment_id, LabelExampleRow.label)
        of_people = of_people.where(LabelExampleRow.segment_id.in_(segments))
        with self.reading() as connection:
            for number, text in connection.execute(texts):
                found.setdefault(number, {})["text"] = text
            for number, label, score in connection.execute(of_classifiers.order_by(SegmentLabelRow.score)):
                found.setdefault(number, {}).update(label=label, label_score=score)
            for row in connection.execute(of_people):
                found.setdefault(row.segment_id, {}).update(label=row.label, label_score=1.0)
        return found
