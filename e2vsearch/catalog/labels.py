"""Stored labels of one's own: examples, classifiers and their predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Row, delete, distinct, func, insert, select, update

from e2vsearch.catalog.columns import integers, read_vectors
from e2vsearch.catalog.database import ROWS_PER_STATEMENT, chunks, retried_on_conflict
from e2vsearch.catalog.schema import (
    ClassifierRow,
    LabelExampleRow,
    SegmentLabelRow,
    SegmentRow,
)
from e2vsearch.catalog.writer import Catalog
from e2vsearch.emotions import NAMELESS
from e2vsearch.types import segment_id


@dataclass(frozen=True, slots=True)
class NewExample:
    """A segment that gets a label, or the vector of one that is not stored."""

    source: str  # the segment's id, or the file and its times
    segment: int | None = None
    vector: NDArray[np.float32] | None = None  # (dim,), of audio that is not stored
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class StoredExample:
    """A segment that has a label, or the vector of one that is not stored."""

    label: str
    source: str
    segment: int | None  # None: of audio that is not stored
    recording: int | None
    speaker: str | None
    vector: NDArray[np.float32]  # (dim,), as the encoder made it


@dataclass(frozen=True, slots=True)
class StoredClassifier:
    """One version of a classifier."""

    id: int
    name: str
    version: int
    space: int  # the row of the space that it is pinned to
    labels: tuple[str, ...]
    parameters: bytes
    report: Mapping[str, Any]
    created_at: datetime
    watermark: int | None  # of the change feed, up to which segments are classified; None: it was never applied
    min_score: float | None  # predictions with a lower probability were not stored


@retried_on_conflict
def add_examples(catalog: Catalog, label: str, examples: Sequence[NewExample]) -> list[str | None]:
    """Give segments a label, and return the label that each had before, which is replaced.

    A segment that is not stored is identified by its source. The speaker of a replaced example stays where the new one
    has none.
    """
    before: list[str | None] = []
    now = datetime.now(UTC)
    with catalog.writing() as connection:
        for example in examples:
            same: ColumnElement[bool] = LabelExampleRow.segment_id == example.segment
            if example.segment is None:
                same = LabelExampleRow.segment_id.is_(None) & (LabelExampleRow.source == example.source)
            found = connection.execute(select(LabelExampleRow.label, LabelExampleRow.speaker).where(same)).first()
            connection.execute(delete(LabelExampleRow).where(same))
            row = {
                "label": label,
                "segment_id": example.segment,
                "vector": None if example.vector is None else example.vector.astype("<f4").tobytes(),
                "source": example.source,
                "speaker": example.speaker or (found.speaker if found else None),
                "created_at": now,
            }
            connection.execute(insert(LabelExampleRow), [row])
            before.append(found.label if found else None)
    return before


def remove_examples(catalog: Catalog, label: str | None, segments: Sequence[int], sources: Sequence[str]) -> int:
    """Remove all examples of a label, or some of its examples (None: of any label), and return how many there were.

    Args:
        catalog: of the collection.
        label: of this label only.
        segments: stored segments.
        sources: files, or parts of them as in `StoredExample.source`.
    """
    conditions: list[ColumnElement[bool]] = [LabelExampleRow.segment_id.in_(part) for part in chunks(list(segments))]
    for source in sources:
        of_file = LabelExampleRow.source.startswith(f"{source}@", autoescape=True)
        conditions.append(LabelExampleRow.segment_id.is_(None) & ((LabelExampleRow.source == source) | of_file))
    query = delete(LabelExampleRow)
    if label is not None:
        query = query.where(LabelExampleRow.label == label)
    with catalog.writing() as connection:
        if not conditions:
            return connection.execute(query).rowcount
        return sum(connection.execute(query.where(condition)).rowcount for condition in conditions)


def examples(catalog: Catalog, labels: Sequence[str] | None = None) -> list[StoredExample]:
    """Return examples with their vectors, of all labels by default, the first given first."""
    table = catalog.vectors
    query = (
        select(LabelExampleRow.label, LabelExampleRow.source, LabelExampleRow.segment_id, SegmentRow.recording_id)
        .add_columns(LabelExampleRow.speaker, LabelExampleRow.vector.label("own"), table.vector, table.crc32)
        .outerjoin(SegmentRow, SegmentRow.id == LabelExampleRow.segment_id)
        .outerjoin(table, table.segment_id == LabelExampleRow.segment_id)
        .order_by(LabelExampleRow.id)
    )
    if labels is not None:
        query = query.where(LabelExampleRow.label.in_(list(labels)))
    with catalog.reading() as connection:
        rows = connection.execute(query).all()
    stored = [row for row in rows if row.own is None]
    dim = catalog.feed().dim if stored else 0
    recordings = integers([row.recording_id for row in stored]).tolist()
    of_segments = iter(read_vectors(stored, [row.segment_id for row in stored], dim, recordings))
    return [
        StoredExample(
            row.label,
            row.source,
            row.segment_id,
            row.recording_id,
            row.speaker,
            next(of_segments) if row.own is None else np.frombuffer(row.own, "<f4").astype(np.float32),
        )
        for row in rows
    ]


def counts(catalog: Catalog) -> dict[str, tuple[int, int, int]]:
    """Return for every label the numbers of examples, of segments with it by a classifier, and of recordings.

    Recordings are those that the examples are of.
    """
    of = func.count(distinct(SegmentRow.recording_id))
    given = select(LabelExampleRow.label, func.count(), of).group_by(LabelExampleRow.label)
    given = given.outerjoin(SegmentRow, SegmentRow.id == LabelExampleRow.segment_id)
    predicted = select(SegmentLabelRow.label, func.count(distinct(SegmentLabelRow.segment_id)))
    with catalog.reading() as connection:
        of_people = {row[0]: (row[1], row[2]) for row in connection.execute(given)}
        of_classifiers = {row[0]: row[1] for row in connection.execute(predicted.group_by(SegmentLabelRow.label))}
    found = {}
    for name in sorted({*of_people, *of_classifiers}):
        examples, recordings = of_people.get(name, (0, 0))
        found[name] = (examples, of_classifiers.get(name, 0), recordings)
    return found


def names(catalog: Catalog) -> tuple[str, ...]:
    """Return every label of an example or a prediction."""
    with catalog.reading() as connection:
        both = [
            connection.execute(select(column).distinct()) for column in (LabelExampleRow.label, SegmentLabelRow.label)
        ]
        return tuple(sorted({name for found in both for name in found.scalars()}))


def labelled(catalog: Catalog) -> NDArray[np.int64]:
    """Return the stored segments that a person labelled, ascending."""
    query = select(LabelExampleRow.segment_id).where(LabelExampleRow.segment_id.is_not(None))
    return catalog.ids(query)


def segment_ids(catalog: Catalog) -> NDArray[np.int64]:
    """Return every stored segment, ascending."""
    return catalog.ids(select(SegmentRow.id))


# -- for prototypes --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Confident:
    """Segments with the highest probabilities of an emotion or a label, in that order."""

    ids: NDArray[np.int64]
    recordings: NDArray[np.int64]
    scores: NDArray[np.float64]  # probabilities


def confident_emotion(catalog: Catalog, emotion: str, limit: int) -> Confident:
    """Return the segments of an emotion; if there are none, the unnamed ones whose likeliest class it is.

    If there are none of these either, the segments in which its probability exceeds its mean by the largest factor of
    all classes. Calls are mostly neutral, and so is the likeliest class of most segments.

    Args:
        catalog: pinned to a space.
        emotion: one of its labels.
        limit: how many at most.
    """
    query = select(SegmentRow.id, SegmentRow.recording_id, SegmentRow.label_score).where(SegmentRow.label == emotion)
    found = _confident(catalog, query.order_by(SegmentRow.label_score.desc(), SegmentRow.id).limit(limit))
    return found if found.ids.size else _unnamed(catalog, emotion, limit)


def _unnamed(catalog: Catalog, emotion: str, limit: int) -> Confident:
    assert catalog.space is not None
    query = select(SegmentRow.id, SegmentRow.recording_id, SegmentRow.scores).where(SegmentRow.label.in_(NAMELESS))
    with catalog.reading() as connection:
        rows = connection.execute(query.where(SegmentRow.scores.is_not(None)).order_by(SegmentRow.id)).all()
    labels = catalog.space.labels
    scores = np.frombuffer(b"".join(row.scores for row in rows), "<f4").reshape(-1, len(labels))
    at = labels.index(emotion)
    best = np.flatnonzero(scores.argmax(axis=1) == at)
    if not best.size and len(scores):
        ratios = scores / np.maximum(scores.mean(axis=0), 1e-9)
        best = np.flatnonzero((ratios.argmax(axis=1) == at) & (scores[:, at] > 0))
    best = best[np.argsort(-scores[best, at], kind="stable")][:limit]
    ids, recordings = np.array([(row.id, row.recording_id) for row in rows], np.int64).reshape(-1, 2)[best].T
    return Confident(ids, recordings, scores[best, at].astype(np.float64))


def confident_label(catalog: Catalog, label: str, limit: int) -> Confident:
    """Return the segments with a label from a classifier."""
    query = select(SegmentRow.id, SegmentRow.recording_id, SegmentLabelRow.score)
    query = query.join(SegmentLabelRow, SegmentLabelRow.segment_id == SegmentRow.id)
    query = query.where(SegmentLabelRow.label == label)
    return _confident(catalog, query.order_by(SegmentLabelRow.score.desc(), SegmentRow.id).limit(limit))


def _confident(catalog: Catalog, query: Any) -> Confident:
    with catalog.reading() as connection:
        rows = connection.execute(query).all()
    columns = list(zip(*(tuple(row) for row in rows), strict=True)) or [(), (), ()]
    return Confident(np.array(columns[0], np.int64), np.array(columns[1], np.int64), np.array(columns[2], np.float64))


# -- classifiers -----------------------------------------------------------------------------------------------


@retried_on_conflict
def store_classifier(
    catalog: Catalog, name: str, labels: Sequence[str], parameters: bytes, report: Mapping[str, Any]
) -> StoredClassifier:
    """Store a classifier as the next version of its name, pinned to the collection's space."""
    with catalog.writing() as connection:
        newest = select(func.coalesce(func.max(ClassifierRow.version), 0)).where(ClassifierRow.name == name)
        row = {
            "name": name,
            "version": connection.execute(newest).scalar_one() + 1,
            "space_id": catalog.space_number,
            "labels": list(labels),
            "parameters": parameters,
            "report": dict(report),
            "created_at": datetime.now(UTC),
        }
        number = connection.execute(insert(ClassifierRow).returning(ClassifierRow.id), [row]).scalar_one()
        return _classifier(connection.execute(select(ClassifierRow.__table__).where(ClassifierRow.id == number)).one())


def classifiers(catalog: Catalog) -> list[StoredClassifier]:
    """Return the newest version of every classifier, by name."""
    newest = select(func.max(ClassifierRow.id)).group_by(ClassifierRow.name)
    query = select(ClassifierRow.__table__).where(ClassifierRow.id.in_(newest)).order_by(ClassifierRow.name)
    with catalog.reading() as connection:
        return [_classifier(row) for row in connection.execute(query)]


def predicted(catalog: Catalog, classifier: int) -> dict[str, int]:
    """Return how many segments have each label from one version of a classifier, most first."""
    query = select(SegmentLabelRow.label, func.count()).where(SegmentLabelRow.classifier_id == classifier)
    with catalog.reading() as connection:
        rows = connection.execute(query.group_by(SegmentLabelRow.label).order_by(func.count().desc()))
        return {row[0]: row[1] for row in rows}


def drop_classifier(catalog: Catalog, name: str) -> int:
    """Remove a classifier and its predictions, and return how many versions there were."""
    with catalog.writing() as connection:
        return connection.execute(delete(ClassifierRow).where(ClassifierRow.name == name)).rowcount


def _classifier(row: Row[Any]) -> StoredClassifier:
    head = (row.id, row.name, row.version, row.space_id, tuple(row.labels))
    return StoredClassifier(*head, row.parameters, row.report, row.created_at, row.watermark, row.min_score)


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of a classifier, without those below its least probability."""

    ids: NDArray[np.int64]  # (n,) ascending
    labels: NDArray[np.int16]  # (n,) indices into the classifier's labels
    scores: NDArray[np.float32]  # (n,) calibrated probabilities


def replace_predictions(
    catalog: Catalog,
    classifier: StoredClassifier,
    predictions: Predictions,
    classified: NDArray[np.int64] | None,
    watermark: int | None,
    min_score: float,
) -> int:
    """Store predictions in place of those of all versions of that classifier, in one transaction.

    Args:
        catalog: of the collection.
        classifier: the version that predicted.
        predictions: to be stored.
        classified: the segments whose older predictions are replaced; None: all.
        watermark: of the change feed, up to which every segment is classified; None where a filter left some out.
        min_score: least probability of a prediction.

    Returns:
        How many were stored; segments that were removed meanwhile are left out.
    """
    stored = 0
    with catalog.writing() as connection:
        versions = connection.execute(select(ClassifierRow.id).where(ClassifierRow.name == classifier.name))
        former = SegmentLabelRow.classifier_id.in_(versions.scalars().all())
        if classified is None:
            connection.execute(delete(SegmentLabelRow).where(former))
        for part in chunks([] if classified is None else classified.tolist()):
            connection.execute(delete(SegmentLabelRow).where(former, SegmentLabelRow.segment_id.in_(part)))
        for start in range(0, predictions.ids.size, ROWS_PER_STATEMENT):
            rows = slice(start, start + ROWS_PER_STATEMENT)
            stored += _insert(connection, classifier, predictions, rows)
        if watermark is not None:
            values = {"watermark": watermark, "min_score": min_score}
            connection.execute(update(ClassifierRow).where(ClassifierRow.id == classifier.id).values(**values))
    return stored


def _insert(connection: Connection, classifier: StoredClassifier, predictions: Predictions, part: slice) -> int:
    ids = predictions.ids[part].tolist()
    # locked against removal until this transaction ends; on SQLite nobody else writes meanwhile anyway
    there = select(SegmentRow.id).where(SegmentRow.id.in_(ids)).with_for_update(read=True, key_share=True)
    stored = set(connection.execute(there).scalars())
    rows = [
        {"segment_id": number, "classifier_id": classifier.id, "label": classifier.labels[label], "score": score}
        for number, label, score in zip(
            ids, predictions.labels[part].tolist(), predictions.scores[part].tolist(), strict=True
        )
        if number in stored
    ]
    if rows:
        connection.execute(insert(SegmentLabelRow), rows)
    return len(rows)


def id_of(example: StoredExample) -> str:
    """Return how messages name an example."""
    return example.source if example.segment is None else segment_id(example.segment)
