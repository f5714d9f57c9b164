"""Labelled vectors that projections are fitted to and measured on: from a table of files, or a collection's labels."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.evaluation import dataset, labels_table
from e2vsearch.analysis.evaluation.dataset import ProgressCallback
from e2vsearch.catalog.labels import examples as stored_examples
from e2vsearch.encoders.registry import SAVED
from e2vsearch.errors import TooFewExamples


@dataclass(frozen=True, slots=True)
class TrainingData:
    """n labelled vectors."""

    vectors: NDArray[np.float32]  # (n, dim), the encoder's
    emotions: list[str]
    speakers: list[str]  # where unknown, the file
    texts: list[str] | None  # None: not all are known
    files: list[str]
    failed: int  # rows of the table that could not be used
    named: bool  # all speakers are known

    def digest(self) -> str:
        """Return a hash of the vectors and their labels."""
        found = hashlib.sha256(np.ascontiguousarray(self.vectors).tobytes())
        found.update(repr((self.emotions, self.speakers, self.texts)).encode())
        return found.hexdigest()[:16]


def from_table(
    context: AnalysisContext, labels: str | os.PathLike[str], progress: ProgressCallback | None
) -> TrainingData:
    """Return labelled files, read from the collection where it holds them, else embedded.

    Raises:
        SettingsError: the table cannot be read.
        TooFewExamples: none of its rows can be used.
    """
    table = labels_table.read(labels)
    stored = dataset.load_stored(table, context)
    parts, failed, known = [stored], len(stored.failures), set(stored.rows)
    rest = tuple(row for row in table.rows if row not in known)
    if rest and context.catalog.encoder_source != SAVED:
        embedded = dataset.embed_table(replace(table, rows=rest, failures=()), context.encoder(), progress=progress)
        parts, failed = [*parts, embedded], len(table.failures) + len(embedded.failures)
    rows = [row for part in parts for row in part.rows]
    if not rows:
        first = stored.failures[0].message if stored.failures else "it has no rows"
        raise TooFewExamples(f"nothing that {os.fspath(labels)} labels can be used - {first}")
    files = [file for part in parts for file in part.files]
    return TrainingData(
        vectors=np.concatenate([part.vectors["clean"] for part in parts if len(part.rows)]),
        emotions=[row.emotion for row in rows],
        speakers=[row.speaker or file for row, file in zip(rows, files, strict=True)],
        texts=[row.text for row in rows] if all(row.text for row in rows) else None,
        files=files,
        failed=failed,
        named=all(row.speaker for row in rows),
    )


def from_labels(context: AnalysisContext) -> TrainingData:
    """Return the segments that were labelled in the collection.

    Raises:
        TooFewExamples: none was.
    """
    context.catalog.require_space()
    examples = stored_examples(context.catalog)
    if not examples:
        raise TooFewExamples("no segment is labelled yet - give examples with: e2vsearch label NAME EXAMPLE...")
    files = [each.source if each.recording is None else f"call:{each.recording}" for each in examples]
    return TrainingData(
        vectors=np.stack([each.vector for each in examples]),
        emotions=[each.label for each in examples],
        speakers=[each.speaker or file for each, file in zip(examples, files, strict=True)],
        texts=None,
        files=files,
        failed=0,
        named=all(each.speaker for each in examples),
    )
