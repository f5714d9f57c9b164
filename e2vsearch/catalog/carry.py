"""Labels and classifiers as an export carries them: every column, and nothing twice. Knows rows, not what they mean.

Reading gives all there is; writing adds what is not there yet and changes nothing that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from e2vsearch.catalog.reading import Reading
from e2vsearch.catalog.rows import ROWS_PER_STATEMENT, parts
from e2vsearch.catalog.store import Catalog
from e2vsearch.catalog.tables import ClassifierRow, LabelExampleRow, SegmentLabelRow, SegmentRow


@dataclass(frozen=True, slots=True)
class Example:
    """A moment to which a person gave a label."""

    label: str
    segment: int | None  # its number, where it is stored
    vector: bytes | None  # else its vector: little-endian float32
    source: str
    speaker: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Classifier:
    """One version of a classifier. How far it has read the change feed is left behind: another database has its own."""

    name: str
    version: int
    labels: tuple[str, ...]
    parameters: bytes
    report: Mapping[str, Any]
    min_score: float | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Said:
    """What a classifier says of a segment."""

    segment: int
    label: str
    score: float


def examples(catalog: Reading) -> Iterator[Example]:
    """Every example, the first given first."""
    row = LabelExampleRow
    query = select(row.label, row.segment_id, row.vector, row.source, row.speaker, row.created_at).order_by(row.id)
    with catalog.reading() as connection:
        for found in connection.execute(query):
            yield Example(*found)


def classifiers(catalog: Reading) -> list[tuple[int, Classifier]]:
    """Every version of every classifier with its number, the first made first."""
    row = ClassifierRow
    query = select(row.id, row.name, row.version, row.labels, row.parameters, row.report, row.min_score, row.created_at)
    with catalog.reading() as connection:
        return [
            (number, Classifier(name, version, tuple(labels), *rest))
            for number, name, version, labels, *rest in connection.execute(query.order_by(row.id))
        ]


def said_by(catalog: Reading, classifier: int) -> Iterator[Said]:
    """All that one version of a classifier says, by segment."""
    row = SegmentLabelRow
    query = select(row.segment_id, row.label, row.score).where(row.classifier_id == classifier).order_by(row.segment_id)
    last = 0
    with catalog.reading() as connection:
        while rows := connection.execute(query.where(row.segment_id > last).limit(ROWS_PER_STATEMENT)).all():
            for found in rows:
                yield Said(*found)
            last = rows[-1].segment_id


def add_examples(catalog: Catalog, given: Iterable[Example]) -> int:
    """Add examples of moments that have no label yet; gives how many."""
    given = list(given)
    row = LabelExampleRow
    with catalog.writing() as connection:
        wanted = {example.segment for example in given if example.segment is not None}
        there = set(_there(connection, wanted)) - set(connection.execute(select(row.segment_id)).scalars())
        elsewhere = select(row.source, row.label, row.vector).where(row.segment_id.is_(None))
        known = {tuple(found) for found in connection.execute(elsewhere)}
        new = [
            {
                "label": each.label,
                "segment_id": each.segment,
                "vector": each.vector,
                "source": each.source,
                "speaker": each.speaker,
                "created_at": each.created_at,
            }
            for each in given
            if (each.segment in there if each.vector is None else (each.source, each.label, each.vector) not in known)
        ]
        if new:
            connection.execute(insert(row), new)
    return len(new)


def add_classifier(catalog: Catalog, given: Classifier) -> tuple[int, bool]:
    """Add a classifier, unless it is there already; gives its number, and whether it is new.

    A version whose number another one has becomes the next.
    """
    row = ClassifierRow
    with catalog.writing() as connection:
        same_name = select(row.id, row.version, row.labels, row.parameters).where(row.name == given.name)
        versions = connection.execute(same_name).all()
        for found in versions:
            if bytes(found.parameters) == given.parameters and tuple(found.labels) == given.labels:
                return found.id, False
        taken = {found.version for found in versions}
        values = {
            "name": given.name,
            "version": given.version if given.version not in taken else max(taken) + 1,
            "space_id": catalog.space_number,
            "labels": list(given.labels),
            "parameters": given.parameters,
            "report": dict(given.report),
            "min_score": given.min_score,
            "created_at": given.created_at,
        }
        return connection.execute(insert(row).returning(row.id), [values]).scalar_one(), True


def add_said(catalog: Catalog, classifier: int, said: Iterable[Said]) -> int:
    """Add what a classifier says of segments of which it says nothing yet; gives how many."""
    row = SegmentLabelRow
    with catalog.writing() as connection:
        known = set(connection.execute(select(row.segment_id).where(row.classifier_id == classifier)).scalars())
        given = [each for each in said if each.segment not in known]
        there = set(_there(connection, {each.segment for each in given}))
        rows = [
            {"segment_id": each.segment, "classifier_id": classifier, "label": each.label, "score": each.score}
            for each in given
            if each.segment in there
        ]
        for part in parts(rows):
            connection.execute(insert(row), list(part))
    return len(rows)


def _there(connection: Connection, segments: set[int]) -> Iterator[int]:
    """Those that are stored, locked against removal for as long as this transaction takes."""
    for part in parts(sorted(segments)):
        query = select(SegmentRow.id).where(SegmentRow.id.in_(part))
        yield from connection.execute(query.with_for_update(read=True)).scalars()
