"""Checks a database against itself, every row of it.

Neither SQLite nor Postgres notices a bit that changed in a row (Postgres may, with data checksums). So what has a
checksum or a form is held to it: rows, vectors, dates. What follows from other rows is held to those: indexes, foreign
keys, the text index, the change feed, courses.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from sqlalchemy import CompoundSelect, except_, intersect, select, text
from sqlalchemy.exc import DatabaseError

from e2vsearch.catalog import named_vectors, sqlite
from e2vsearch.catalog.beside import VECTOR_TABLES, VectorTable
from e2vsearch.catalog.cells import damaged_dates, damaged_json
from e2vsearch.catalog.columns import RowChecksum, is_sound
from e2vsearch.catalog.database import ROWS_PER_STATEMENT
from e2vsearch.catalog.dynamics import courses_of
from e2vsearch.catalog.row_checksums import EXAMPLE, RECORDING, SEGMENT, damaged_rows
from e2vsearch.catalog.schema import (
    ChangeRow,
    NamedVectorRow,
    RecordingRow,
    SegmentRow,
    SpaceRow,
    VectorRow,
)
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import REEMBED, REPAIR, CatalogError, first_line
from e2vsearch.types import NamedVectors, recording_id, segment_id

_RESTORE = "restore a backup, or save what can be read: e2vsearch export FOLDER && e2vsearch import FOLDER --index NEW"
_SHOWN = 5  # of each fault


@dataclass(frozen=True, slots=True)
class IntegrityCheck:
    """One thing of a database that was checked."""

    name: str
    ok: bool
    found: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class DamagedVectorRow:
    """A segment's vector that is not what was stored."""

    segment: int
    vector: bytes
    crc32: int
    recording: int | None  # that the segment is of; None for named vectors
    dim: int
    named: NamedVectors | None  # the set that it is in; None: the segment's own vector
    table: VectorTable = VectorRow  # that a segment's own vector is in


_Fault = tuple[str, str]  # what was found, and the cure


def verify(catalog: Catalog) -> list[IntegrityCheck]:
    """Check all rows of a database, and return what was checked: each fault, with its cure, and what is intact."""
    checks: list[tuple[str, Callable[[Catalog], Iterator[_Fault]]]] = [
        ("change feed", _feed),
        ("segments", _segments),
        ("rows", _rows),
        ("vectors", _vectors),
        ("courses", _courses),
    ]
    if catalog.url.get_backend_name() == "sqlite":  # Postgres holds what it stores to its types and keys
        checks = [("file", _file), ("foreign keys", _foreign_keys), ("text index", _text_index), *checks]
        checks += [("dates", _dates), ("documents", _documents)]
    return [each for name, check in checks for each in _checked(name, check, catalog)]


def _checked(name: str, check: Callable[[Catalog], Iterator[_Fault]], catalog: Catalog) -> list[IntegrityCheck]:
    try:
        faults = list(check(catalog))
    except (CatalogError, DatabaseError) as error:
        faults = [(f"cannot be read: {first_line(error)}", _RESTORE if sqlite.is_damage(error) else "try again")]
    return [IntegrityCheck(name, False, *each) for each in faults] or [IntegrityCheck(name, True, "intact")]


def _file(catalog: Catalog) -> Iterator[_Fault]:
    lines = integrity_problems(catalog)
    cure = REPAIR if only_indexes(lines) else _RESTORE
    for line in lines[:_SHOWN]:
        yield line, cure


def integrity_problems(catalog: Catalog) -> list[str]:
    """Return what SQLite's integrity check finds."""
    with catalog.reading() as connection:
        lines = connection.execute(text("PRAGMA integrity_check")).scalars().all()
    return [line for each in lines for line in str(each).splitlines() if line != "ok"]


def only_indexes(lines: Sequence[str]) -> bool:
    """Tell whether all that an integrity check found can be made again from the tables."""
    # SQLite 3.53: fts5: corruption found reading blob 1 from table "segment_words"
    return bool(lines) and all(
        "fts5" in each.lower() or ("index" in each and "malformed" not in each) for each in lines
    )


def _foreign_keys(catalog: Catalog) -> Iterator[_Fault]:
    with catalog.reading() as connection:
        rows = connection.execute(text("PRAGMA foreign_key_check")).all()
    for table, row, parent, _ in rows[:_SHOWN]:
        yield f"row {row} of {table} belongs to a {parent} that is not there", _RESTORE


def text_index_problem(catalog: Catalog) -> str | None:
    """Return what is wrong with SQLite's full-text index; None if it is intact, or cannot be written to."""
    try:
        with catalog.writing() as connection:  # nothing is written, but SQLite takes the command for an insertion
            connection.execute(text("INSERT INTO segment_words (segment_words, rank) VALUES ('integrity-check', 1)"))
    except (CatalogError, DatabaseError) as error:
        if sqlite.is_damage(error):
            return "it is not that of the texts"
    return None


def _text_index(catalog: Catalog) -> Iterator[_Fault]:
    problem = text_index_problem(catalog)
    if problem is not None:
        yield problem, REPAIR


def _feed(catalog: Catalog) -> Iterator[_Fault]:
    """Compare the change feed with the segments: each was added, none was removed, and no other is left."""
    added = select(ChangeRow.segment_id).where(ChangeRow.op == "+")
    removed = select(ChangeRow.segment_id).where(ChangeRow.op == "-")
    here = select(SegmentRow.id)
    for query, found in (  # set operations are quick without an index on either database
        (except_(here, added), "the change feed never added {}"),
        (intersect(here, removed), "the change feed removed {}, which is there"),
        (except_(added, removed, here), "the change feed has {}, which is gone"),
    ):
        yield from _listed(catalog, query, found, _RESTORE)


def _segments(catalog: Catalog) -> Iterator[_Fault]:
    without = except_(select(SegmentRow.id), select(catalog.vectors.segment_id))
    yield from _listed(catalog, without, "{} has no vector", "")


def _listed(catalog: Catalog, query: CompoundSelect[int], found: str, cure: str) -> Iterator[_Fault]:
    with catalog.reading() as connection:
        numbers = connection.execute(query.order_by(text("1"))).scalars().all()
    for number in numbers[:_SHOWN]:
        yield found.format(segment_id(number)), cure or _ingest_anew(catalog, number)
    if len(numbers) > _SHOWN:
        yield found.format(f"{len(numbers) - _SHOWN:,} more"), cure or "as above"


def _ingest_anew(catalog: Catalog, segment: int) -> str:
    """Return the commands that make the segments of a recording again."""
    query = select(RecordingRow.id, RecordingRow.uri).join(SegmentRow, SegmentRow.recording_id == RecordingRow.id)
    with catalog.reading() as connection:
        found = connection.execute(query.where(SegmentRow.id == segment)).first()
    if found is None:
        return _RESTORE
    return f"e2vsearch remove {recording_id(found.id)} && e2vsearch ingest {shlex.quote(found.uri)}"


def _rows(catalog: Catalog) -> Iterator[_Fault]:
    with catalog.reading() as connection:
        for at, (checksum, _, row) in enumerate(damaged_rows(connection)):
            if at == _SHOWN:
                yield "and more rows", REPAIR
                return
            name, cure = _named_with_cure(catalog, checksum, row)
            yield f"what {checksum.table} holds of {name} is damaged", f"{REPAIR}, or else: {cure}"


def _named_with_cure(catalog: Catalog, checksum: RowChecksum, row: Any) -> tuple[str, str]:
    of_segment = row.id if checksum is SEGMENT else getattr(row, "segment_id", None)
    if checksum is EXAMPLE:
        name = segment_id(of_segment) if of_segment is not None else repr(row.source)
        return name, f"label it again, or e2vsearch label remove {shlex.quote(row.label)}"
    if of_segment is not None:
        return segment_id(of_segment), _ingest_anew(catalog, of_segment)
    number = row.id if checksum is RECORDING else row.recording_id
    return recording_id(number), f"e2vsearch remove {recording_id(number)}, and ingest its file again"


def _vectors(catalog: Catalog) -> Iterator[_Fault]:
    found: dict[tuple[str, str], list[str]] = {}
    for row in damaged_vectors(catalog):
        cure = f"e2vsearch vectors attach {row.named.name} FILE" if row.named else _ingest_anew(catalog, row.segment)
        of = f" in {row.named.name}" if row.named else ""
        if row.named is None and row.table is not catalog.vectors:
            of, cure = " in the space that is not in use", f"{REEMBED} --discard"
        found.setdefault((of, cure), []).append(segment_id(row.segment))
    for (of, cure), segments in found.items():
        more = f" and {len(segments) - _SHOWN:,} more" if len(segments) > _SHOWN else ""
        yield f"damaged{of}: {', '.join(segments[:_SHOWN])}{more}", f"{REPAIR}, or else: {cure}"


def damaged_vectors(catalog: Catalog) -> Iterator[DamagedVectorRow]:
    """Yield every row whose vector is not what was stored, or has NaN or infinite values."""
    with catalog.reading() as connection:
        held = connection.execute(select(SpaceRow.vectors, SpaceRow.dim)).all()
    for name, dim in held:
        if name is None:  # a former space, whose vectors are deleted
            continue
        table = VECTOR_TABLES[name]
        query = select(table.segment_id, table.vector, table.crc32, SegmentRow.recording_id)
        query = query.join(SegmentRow, SegmentRow.id == table.segment_id)
        yield from _unsound(catalog, query, table.segment_id, dim, None, table)
    for named in named_vectors.listed(catalog):
        yield from _unsound(catalog, named_vectors.vectors_of(named), NamedVectorRow.segment_id, named.dim, named)


def _unsound(
    catalog: Catalog, query: Any, key: Any, dim: int, named: NamedVectors | None, table: VectorTable = VectorRow
) -> Iterator[DamagedVectorRow]:
    query, last = query.order_by(key).limit(ROWS_PER_STATEMENT), None
    with catalog.reading() as connection:
        while rows := connection.execute(query if last is None else query.where(key > last)).all():
            last = rows[-1].segment_id
            for row in rows:
                recording = None if named else row.recording_id
                if recording is not None and not isinstance(recording, int):
                    continue  # `_rows` tells of it
                if not is_sound(row, dim, recording) or not np.isfinite(np.frombuffer(row.vector, "<f4")).all():
                    yield DamagedVectorRow(row.segment_id, row.vector, row.crc32, recording, dim, named, table)


def _courses(catalog: Catalog) -> Iterator[_Fault]:
    """Compare the course of each recording with that which its segments make."""
    query, last = select(RecordingRow.id, RecordingRow.course).order_by(RecordingRow.id).limit(ROWS_PER_STATEMENT), 0
    damaged: list[int] = []
    with catalog.reading() as connection:
        while rows := connection.execute(query.where(RecordingRow.id > last)).all():
            courses = courses_of(connection, [row.id for row in rows])
            damaged += [row.id for row in rows if row.course != courses[row.id]]
            last = rows[-1].id
    for number in damaged[:_SHOWN]:
        cure = f"e2vsearch remove {recording_id(number)}, and ingest its file again"
        yield f"the course of {recording_id(number)} is not that of its segments", cure


def _documents(catalog: Catalog) -> Iterator[_Fault]:
    with catalog.reading() as connection:
        for each in islice(damaged_json(connection), _SHOWN):
            yield each, _RESTORE


def _dates(catalog: Catalog) -> Iterator[_Fault]:
    with catalog.reading() as connection:
        for at, each in enumerate(damaged_dates(connection)):
            if at == _SHOWN:
                yield "and more dates", REPAIR
                return
            yield str(each), REPAIR
