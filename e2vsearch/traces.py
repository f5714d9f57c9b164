"""Traces of recordings: byte strings that would tell of them if they were left in a file.

They are read before recordings are erased, and searched for afterwards. What other recordings hold as well, such as a
common phrase, is no trace.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from e2vsearch.byte_search import LEAST_BYTES, Needles
from e2vsearch.catalog.beside import BesideSegmentRow, BesideVectorRow
from e2vsearch.catalog.database import chunks
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.schema import (
    AuditRow,
    LabelExampleRow,
    MetadataRow,
    NamedVectorRow,
    RecordingRow,
    SegmentRow,
    SegmentTextRow,
    VectorRow,
)
from e2vsearch.vectors.exact import unit32

SAMPLE = 5000
"""Segments whose vectors and words are looked for, at most; of more, so many spread over all of them."""

_PIECE_BYTES = 32  # eight numbers of a vector, or some words: no chance has them twice
_VECTOR_STEP, _TEXT_STEP = 512, 96  # a row may lie in parts on several pages, so several pieces of it are looked for
_TAIL_BYTES = 64  # of a path: its beginning is that of others as well
_LEAST_VARIETY = 4  # different bytes in a piece: zeros are everywhere

_TEXTS = (
    RecordingRow.uri,
    RecordingRow.name,
    MetadataRow.text,
    SegmentTextRow.text,
    SegmentTextRow.words,
    AuditRow.request,  # which is only ever added to, and never erased
)
_NUMBERS = (
    *(VectorRow.vector, BesideVectorRow.vector, NamedVectorRow.vector, LabelExampleRow.vector),
    *(SegmentRow.scores, BesideSegmentRow.scores),
)


@dataclass(frozen=True, slots=True)
class Trace:
    """A byte string, and what it is of."""

    kind: Literal["vector", "probabilities", "words", "name", "metadata"]
    content: bytes
    stored: bytes  # the same as a row holds it: what is looked for in those of other recordings


def of_recordings(catalog: CatalogReader, numbers: Sequence[int]) -> list[Trace]:
    """Return traces of stored recordings: paths, names, metadata, vectors, probabilities, and words."""
    ids, _ = catalog.segments_of(numbers)
    found: list[Trace] = []
    with catalog.reading() as connection:
        for part in chunks(list(numbers)):
            columns = select(RecordingRow.uri, RecordingRow.name, RecordingRow.content_sha256)
            for row in connection.execute(columns.where(RecordingRow.id.in_(part))):
                found += [*of_text("name", row.uri), *of_text("name", row.name), *of_text("name", row.content_sha256)]
            values = select(MetadataRow.text).where(MetadataRow.recording_id.in_(part)).distinct()
            for value in connection.execute(values).scalars():
                found += of_text("metadata", value)
        for some in chunks(ids[:: max(1, -(-ids.size // SAMPLE))].tolist()):
            found += _of_segments(connection, some)
    return list(dict.fromkeys(found))


def of_vectors(vectors: NDArray[np.float32], stored: NDArray[np.float32]) -> list[Trace]:
    """Return traces of vectors ``(n, d)``; `stored` are those of the catalog that they were made of."""
    return [
        Trace("vector", piece, of.astype("<f4").tobytes())
        for row, of in zip(vectors, stored, strict=True)
        for piece in _pieces(row.astype("<f4").tobytes(), _VECTOR_STEP)
    ]


def of_text(kind: Literal["name", "metadata"], value: str) -> list[Trace]:
    """Return traces of a path, name or value: its end, as columns hold it and as JSON does."""
    content = value.encode(errors="replace")[-_TAIL_BYTES:]
    if len(content) < LEAST_BYTES:
        return []
    return [Trace(kind, each, content) for each in sorted({content, _in_json(value)[-_TAIL_BYTES:]})]


def elsewhere(catalog: CatalogReader, traces: Sequence[Trace]) -> set[int]:
    """Return which traces the rows of recordings hold that are stored now, by their positions."""
    if not traces:
        return set()
    wanted = Needles([trace.stored for trace in traces])
    numbers = any(trace.kind in ("vector", "probabilities") for trace in traces)
    texts = any(trace.kind not in ("vector", "probabilities") for trace in traces)
    columns = (*(_TEXTS if texts else ()), *(_NUMBERS if numbers else ()))
    with catalog.reading() as connection:
        return wanted.found(content for column in columns for content in _joined(connection, column))


def _of_segments(connection: Connection, numbers: Sequence[int]) -> Iterator[Trace]:
    for of in (VectorRow.__table__.c, BesideVectorRow.__table__.c, NamedVectorRow.__table__.c):
        query = select(of.vector).where(of.segment_id.in_(numbers))
        for data in connection.execute(query).scalars():
            yield from (Trace("vector", piece, piece) for piece in _pieces(data, _VECTOR_STEP))
            vector = np.frombuffer(data, "<f4")[None]
            yield from of_vectors(unit32(vector), vector)  # as generations hold them
    scores = select(SegmentRow.scores).where(SegmentRow.id.in_(numbers))
    beside = select(BesideSegmentRow.scores).where(BesideSegmentRow.segment_id.in_(numbers))
    for of_space in (scores, beside):
        for probabilities in filter(None, connection.execute(of_space).scalars()):
            yield from (Trace("probabilities", piece, piece) for piece in _pieces(probabilities, _VECTOR_STEP))
    texts = select(SegmentTextRow.text, SegmentTextRow.words).where(SegmentTextRow.segment_id.in_(numbers))
    for text, words in connection.execute(texts):
        plain = text.encode()
        yield from (Trace("words", piece, piece) for piece in _pieces(plain, _TEXT_STEP))
        if len(plain) >= LEAST_BYTES and not text.isascii():
            yield from (Trace("words", piece, plain) for piece in _pieces(_in_json(text), _TEXT_STEP))
        for word in set(words.split()):
            # the full-text index leaves out the beginning that a word has in common with the one before it
            if len(end := word.encode()[-LEAST_BYTES:]) == LEAST_BYTES:
                yield Trace("words", end, end)


def _pieces(content: bytes, step: int) -> Iterator[bytes]:
    for start in range(0, len(content), step):
        piece = content[start : start + _PIECE_BYTES]
        if len(piece) >= LEAST_BYTES and len(set(piece)) >= _LEAST_VARIETY:
            yield piece


def _in_json(text: str) -> bytes:
    return json.dumps(text)[1:-1].encode()


def _joined(connection: Connection, column: Any) -> Iterator[bytes]:
    """Yield the values of a column, some together."""
    for rows in connection.execute(select(column).where(column.is_not(None))).partitions(1000):
        yield b"\0".join(_content(row[0]) for row in rows)


def _content(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode(errors="replace")
