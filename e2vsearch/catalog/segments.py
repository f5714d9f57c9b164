"""Columns of segments as arrays: times, recordings, class probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import exists, func, select

from e2vsearch.catalog.database import chunks, place
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.schema import ChangeRow, LabelExampleRow, RecordingRow, SegmentLabelRow, SegmentRow
from e2vsearch.emotions import NAMELESS
from e2vsearch.errors import REPAIR, CatalogError, DamagedRow
from e2vsearch.types import segment_id


@dataclass(frozen=True, slots=True)
class SegmentColumns:
    """Segments in order of recording, channel and time; all ``(n,)``."""

    ids: NDArray[np.int64]
    recordings: NDArray[np.int64]
    channels: NDArray[np.int64]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]

    def where(self, keep: NDArray[np.bool_]) -> SegmentColumns:
        """Return some of the segments."""
        return SegmentColumns(
            self.ids[keep], self.recordings[keep], self.channels[keep], self.start_s[keep], self.end_s[keep]
        )  # fmt: skip


def segment_columns(
    catalog: CatalogReader, *, recordings: Sequence[int] | None = None, segments: Sequence[int] | None = None
) -> SegmentColumns:
    """Return segments of some recordings, or some by number; all by default."""
    row = SegmentRow
    query = select(row.id, row.recording_id, row.channel, row.start_s, row.end_s)
    key, numbers = (row.id, segments) if segments is not None else (row.recording_id, recordings)
    found: list[tuple[Any, ...]] = []
    with catalog.reading() as connection:
        if numbers is None:
            found.extend(map(tuple, connection.execute(query)))
        for part in chunks(list(numbers or ())):
            found.extend(map(tuple, connection.execute(query.where(key.in_(part)))))
    try:
        columns = np.array(found, np.float64).reshape(-1, 5)  # whole numbers below 2**53 stay what they are
    except (ValueError, TypeError) as error:
        raise DamagedRow(f"a time or number in the database is none - find it: {REPAIR}") from error
    columns = columns[np.lexsort((columns[:, 0], columns[:, 3], columns[:, 2], columns[:, 1]))]
    ids, of, channels = columns[:, :3].astype(np.int64).T
    return SegmentColumns(ids, of, channels, columns[:, 3], columns[:, 4])


def count_of(catalog: CatalogReader) -> tuple[int, int, int]:
    """Return the count, the least and the greatest number of all segments; zeros where there is none."""
    query = select(func.count(), func.min(SegmentRow.id), func.max(SegmentRow.id)).select_from(SegmentRow)
    with catalog.reading() as connection:
        count, least, greatest = connection.execute(query).one()
    return count, least or 0, greatest or 0


def named(catalog: CatalogReader, numbers: NDArray[np.int64]) -> dict[int, str]:
    """Return the emotions of those of some segments that have one, by number."""
    found: dict[int, str] = {}
    query = select(SegmentRow.id, SegmentRow.label).where(SegmentRow.label.not_in(NAMELESS))
    with catalog.reading() as connection:
        for part in chunks(numbers.tolist()):
            found.update((row.id, row.label) for row in connection.execute(query.where(SegmentRow.id.in_(part))))
    return found


def scored(catalog: CatalogReader) -> int:
    """Return how many segments have class probabilities."""
    query = select(func.count()).select_from(SegmentRow).where(SegmentRow.scores.is_not(None))
    with catalog.reading() as connection:
        return int(connection.execute(query).scalar_one())


def scores(catalog: CatalogReader, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the class probabilities of those of some segments that have any.

    Returns:
        Their ids ``(m,)``, ascending, and the probabilities ``(m, labels)``.
    """
    query = select(SegmentRow.id, SegmentRow.scores).where(SegmentRow.scores.is_not(None)).order_by(SegmentRow.id)
    rows: list[Any] = []
    with catalog.reading() as connection:
        for part in chunks(sorted(numbers.tolist())):
            rows.extend(connection.execute(query.where(SegmentRow.id.in_(part))))
    ids = np.array([row.id for row in rows], np.int64)
    joined = np.frombuffer(b"".join(row.scores for row in rows), "<f4")
    return ids, joined.reshape(len(rows), joined.size // max(len(rows), 1))


def segments_with_emotion(catalog: CatalogReader, position: int, least: float) -> NDArray[np.int64]:
    """Return the segments with at least that probability of a class, the likeliest class or not; ids ascending.

    Args:
        catalog: of the collection.
        position: of the class among the space's labels.
        least: the probability, 0 to 1.
    """
    return catalog.filter_cache.of(
        ("emotion", position, least), lambda: _segments_with_emotion(catalog, position, least)
    )


def _segments_with_emotion(catalog: CatalogReader, position: int, least: float) -> NDArray[np.int64]:
    score = func.substr(SegmentRow.scores, 4 * position + 1, 4)  # one float32 of the blob: SQL counts from 1
    query = select(SegmentRow.id, score.label("score")).where(SegmentRow.scores.is_not(None)).order_by(SegmentRow.id)
    with catalog.reading() as connection:
        rows = connection.execute(query).all()
    ids = np.array([row.id for row in rows], np.int64)
    scores = np.frombuffer(b"".join(row.score for row in rows), "<f4")
    return ids[scores >= np.float32(least)]


def segments_with_label(catalog: CatalogReader, label: str, least: float) -> NDArray[np.int64]:
    """Return the segments with a label of a person, or of a classifier that is that confident; ids ascending."""
    return catalog.filter_cache.of(("label", label, least), lambda: _segments_with_label(catalog, label, least))


def _segments_with_label(catalog: CatalogReader, label: str, least: float) -> NDArray[np.int64]:
    given = select(LabelExampleRow.segment_id, LabelExampleRow.label).where(LabelExampleRow.segment_id.is_not(None))
    predicted = select(SegmentLabelRow.segment_id).where(SegmentLabelRow.label == label, SegmentLabelRow.score >= least)
    with catalog.reading() as connection:
        by_person = {row.segment_id: row.label for row in connection.execute(given)}
        by_classifier = set(connection.execute(predicted).scalars()) - by_person.keys()  # a person's label comes first
    found = by_classifier | {number for number, name in by_person.items() if name == label}
    return np.array(sorted(found), np.int64)


def check_removed(catalog: CatalogReader, numbers: Sequence[int]) -> None:
    """Check that segments which are not there, or have no recording, were removed: a damaged page loses rows, too.

    Raises:
        CatalogError: the change feed has one as added alone, or its recording is gone without it.
    """
    removal = ChangeRow.__table__.alias().c
    removed = exists().where(removal.segment_id == ChangeRow.segment_id, removal.op == "-")
    stored = exists().where(SegmentRow.id == ChangeRow.segment_id)
    lost = select(ChangeRow.segment_id).where(ChangeRow.op == "+", ~removed, ~stored)
    orphans = select(SegmentRow.id).where(~exists().where(RecordingRow.id == SegmentRow.recording_id))
    with catalog.reading() as connection:
        for part in chunks(list(numbers)):
            queries = lost.where(ChangeRow.segment_id.in_(part)), orphans.where(SegmentRow.id.in_(part))
            found = [number for query in queries for number in connection.execute(query).scalars()]
            if found:
                raise CatalogError(
                    f"{place(catalog.url)} has lost a row of {segment_id(found[0])}, which nobody removed: it is "
                    "damaged - restore it from a backup; e2vsearch db verify says what else"
                )
