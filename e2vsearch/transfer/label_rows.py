"""Labels, classifiers and their predictions as an export has them, read from the catalog and added to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from e2vsearch.catalog.database import ROWS_PER_STATEMENT, chunks
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.schema import ClassifierRow, LabelExampleRow, SegmentLabelRow, SegmentRow
from e2vsearch.catalog.writer import Catalog


@dataclass(frozen=True, slots=True)
class Example:
    """A segment, or a vector of audio that is not stored, to which a person gave a label."""

    label: str
    segment: int | None  # its number, where it is stored
    vector: bytes | None  # else its vector: little-endian float32
    source: str
    speaker: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Classifier:
    """One version of a classifier, without its watermark: another database has another change feed."""

    name: str
    version: int
    labels: tuple[str, ...]
    parameters: bytes
    report: Mapping[str, Any]
    min_score: float | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Prediction:
    """The label that a classifier gives a segment."""

    segment: int
    label: str
    score: float


def examples(catalog: CatalogReader) -> Iterator[Example]:
    """Yield every example, the first given first."""
    row = LabelExampleRow
    query = select(row.label, row.segment_id, row.vector, row.source, row.speaker, row.created_at).order_by(row.id)
    with catalog.reading() as connection:
        for found in connection.execute(query):
            yield Example(*found)


def classifiers(catalog: CatalogReader) -> list[tuple[int, Classifier]]:
    """Return every version of every classifier with its number, the first made first."""
    row = ClassifierRow
    query = select(row.id, row.name, row.version, row.labels, row.parameters, row.report, row.min_score, row.created_at)
    with catalog.reading() as connection:
        return [
            (number, Classifier(name, version, tuple(labels), *rest))
            for number, name, version, labels, *rest in connection.execute(query.order_by(row.id))
        ]


def predictions(catalog: CatalogReader, classifier: int) -> Iterator[Prediction]:
    """Yield the predictions of one version of a classifier, by segment."""
    row = SegmentLabelRow
    query = select(row.segment_id, row.label, row.score).where(row.classifier_id == classifier).order_by(row.segment_id)
    last = 0
    with catalog.reading() as connection:
        while rows := connection.execute(query.where(row.segment_id > last).limit(ROWS_PER_STATEMENT)).all():
            for found in rows:
                yield Prediction(*found)
            last = rows[-1].segment_id


def add_examples(catalog: Catalog, given: Iterable[Example]) -> int:
    """Add examples of segments that have no label yet, and return how many."""
    given = list(given)
    row = LabelExampleRow
    with catalog.writing() as connection:
        wanted = {example.segment for example in given if example.segment is not None}
        stored = set(_stored(connection, wanted)) - set(connection.execute(select(row.segment_id)).scalars())
        elsewhere = select(row.source, row.label, row.vector).where(row.segment_id.is_(None))
        known = {tuple(found) for found in connection.execute(elsewhere)}
        new = [
            {"segment_id" if key == "segment" else key: value for key, value in asdict(each).items()}
            for each in given
            if (each.segment in stored if each.vector is None else (each.source, each.label, each.vector) not in known)
        ]
        if new:
            connection.execute(insert(row), new)
    return len(new)


def add_classifier(catalog: Catalog, given: Classifier) -> tuple[int, bool]:
    """Add a classifier unless it is stored already, and return its number and whether it is new.

    If another classifier has its version number, it becomes the next version.
    """
    row = ClassifierRow
    with catalog.writing() as connection:
        same_name = select(row.id, row.version, row.labels, row.parameters).where(row.name == given.name)
        versions = connection.execute(same_name).all()
        for found in versions:
            if bytes(found.parameters) == given.parameters and tuple(found.labels) == given.labels:
                return found.id, False
        taken = {found.version for found in versions}
        version = given.version if given.version not in taken else max(taken) + 1
        values = asdict(given) | {"version": version, "space_id": catalog.space_number}
        return connection.execute(insert(row).returning(row.id), [values]).scalar_one(), True


def add_predictions(catalog: Catalog, classifier: int, added: Iterable[Prediction]) -> int:
    """Add predictions for segments that have none from that classifier yet, and return how many."""
    row = SegmentLabelRow
    with catalog.writing() as connection:
        known = set(connection.execute(select(row.segment_id).where(row.classifier_id == classifier)).scalars())
        given = [each for each in added if each.segment not in known]
        stored = set(_stored(connection, {each.segment for each in given}))
        rows = [
            {"segment_id": each.segment, "classifier_id": classifier, "label": each.label, "score": each.score}
            for each in given
            if each.segment in stored
        ]
        for part in chunks(rows):
            connection.execute(insert(row), list(part))
    return len(rows)


def _stored(connection: Connection, segments: set[int]) -> Iterator[int]:
    """Yield those segments that are stored, locked against removal until the end of the transaction."""
    for part in chunks(sorted(segments)):
        query = select(SegmentRow.id).where(SegmentRow.id.in_(part))
        yield from connection.execute(query.with_for_update(read=True)).scalars()
