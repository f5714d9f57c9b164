"""When segments were spoken, and how sure a class is of each: columns of numbers, for what looks at many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select

from e2vsearch.catalog.database import parts
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.schema import LabelExampleRow, SegmentLabelRow, SegmentRow
from e2vsearch.emotions import NAMELESS


@dataclass(frozen=True, slots=True)
class SegmentColumns:
    """Segments in order of recording, channel and time; all ``(n,)``."""

    ids: NDArray[np.int64]
    recordings: NDArray[np.int64]
    channels: NDArray[np.int64]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]

    def where(self, keep: NDArray[np.bool_]) -> SegmentColumns:
        """Some of them."""
        return SegmentColumns(
            self.ids[keep], self.recordings[keep], self.channels[keep], self.start_s[keep], self.end_s[keep]
        )  # fmt: skip


def segment_columns(
    catalog: CatalogReader, *, recordings: Sequence[int] | None = None, segments: Sequence[int] | None = None
) -> SegmentColumns:
    """Where segments lie: those of some recordings, or some by number; all by default."""
    row = SegmentRow
    query = select(row.id, row.recording_id, row.channel, row.start_s, row.end_s)
    key, numbers = (row.id, segments) if segments is not None else (row.recording_id, recordings)
    found: list[tuple[Any, ...]] = []
    with catalog.reading() as connection:
        if numbers is None:
            found.extend(map(tuple, connection.execute(query)))
        for part in parts(list(numbers or ())):
            found.extend(map(tuple, connection.execute(query.where(key.in_(part)))))
    columns = np.array(found, np.float64).reshape(-1, 5)  # whole numbers below 2**53 stay what they are
    columns = columns[np.lexsort((columns[:, 0], columns[:, 3], columns[:, 2], columns[:, 1]))]
    ids, of, channels = columns[:, :3].astype(np.int64).T
    return SegmentColumns(ids, of, channels, columns[:, 3], columns[:, 4])


def count_of(catalog: CatalogReader) -> tuple[int, int, int]:
    """How many segments there are, the least and the greatest number of one; zeros where there is none."""
    query = select(func.count(), func.min(SegmentRow.id), func.max(SegmentRow.id)).select_from(SegmentRow)
    with catalog.reading() as connection:
        count, least, greatest = connection.execute(query).one()
    return count, least or 0, greatest or 0


def named(catalog: CatalogReader, numbers: NDArray[np.int64]) -> dict[int, str]:
    """The emotion of each of some segments of which one is named."""
    found: dict[int, str] = {}
    query = select(SegmentRow.id, SegmentRow.label).where(SegmentRow.label.not_in(NAMELESS))
    with catalog.reading() as connection:
        for part in parts(numbers.tolist()):
            found.update((row.id, row.label) for row in connection.execute(query.where(SegmentRow.id.in_(part))))
    return found


def scored(catalog: CatalogReader) -> int:
    """How many segments have the encoder's class probabilities."""
    query = select(func.count()).select_from(SegmentRow).where(SegmentRow.scores.is_not(None))
    with catalog.reading() as connection:
        return int(connection.execute(query).scalar_one())


def scores(catalog: CatalogReader, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Class probabilities of those of some segments that have any.

    Returns:
        Their ids ``(m,)``, ascending, and the probabilities ``(m, labels)``.
    """
    query = select(SegmentRow.id, SegmentRow.scores).where(SegmentRow.scores.is_not(None)).order_by(SegmentRow.id)
    rows: list[Any] = []
    with catalog.reading() as connection:
        for part in parts(sorted(numbers.tolist())):
            rows.extend(connection.execute(query.where(SegmentRow.id.in_(part))))
    ids = np.array([row.id for row in rows], np.int64)
    joined = np.frombuffer(b"".join(row.scores for row in rows), "<f4")
    return ids, joined.reshape(len(rows), joined.size // max(len(rows), 1))


def segments_with_emotion(catalog: CatalogReader, position: int, least: float) -> NDArray[np.int64]:
    """Segments to which the encoder gives a class at least that probability, likeliest or not; ids ascending.

    Args:
        catalog: where.
        position: of the class among the space's labels.
        least: the probability, 0 to 1.
    """
    return catalog.choices.of(("emotion", position, least), lambda: _segments_with_emotion(catalog, position, least))


def _segments_with_emotion(catalog: CatalogReader, position: int, least: float) -> NDArray[np.int64]:
    score = func.substr(SegmentRow.scores, 4 * position + 1, 4)  # one float32 of the blob: SQL counts from 1
    query = select(SegmentRow.id, score.label("score")).where(SegmentRow.scores.is_not(None)).order_by(SegmentRow.id)
    with catalog.reading() as connection:
        rows = connection.execute(query).all()
    ids = np.array([row.id for row in rows], np.int64)
    scores = np.frombuffer(b"".join(row.score for row in rows), "<f4")
    return ids[scores >= np.float32(least)]


def segments_with_label(catalog: CatalogReader, label: str, least: float) -> NDArray[np.int64]:
    """Segments that a person gave a label, or else a classifier with at least that probability; ids ascending."""
    return catalog.choices.of(("label", label, least), lambda: _segments_with_label(catalog, label, least))


def _segments_with_label(catalog: CatalogReader, label: str, least: float) -> NDArray[np.int64]:
    given = select(LabelExampleRow.segment_id, LabelExampleRow.label).where(LabelExampleRow.segment_id.is_not(None))
    said = select(SegmentLabelRow.segment_id).where(SegmentLabelRow.label == label, SegmentLabelRow.score >= least)
    with catalog.reading() as connection:
        by_person = {row.segment_id: row.label for row in connection.execute(given)}
        by_classifier = set(connection.execute(said).scalars()) - by_person.keys()  # a person's word comes first
    sure = by_classifier | {number for number, name in by_person.items() if name == label}
    return np.array(sorted(sure), np.int64)


def recordings_of_segments(catalog: CatalogReader) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every segment's number, and its recording's; by recording."""
    query = select(SegmentRow.id, SegmentRow.recording_id).order_by(SegmentRow.recording_id, SegmentRow.id)
    with catalog.reading() as connection:
        pairs = np.array([tuple(row) for row in connection.execute(query)], np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
