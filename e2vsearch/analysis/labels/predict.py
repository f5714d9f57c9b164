"""Predictions of a stored classifier, for the collection or a clip.

The collection is streamed, and predictions are held as 14 bytes a segment until they are stored together: the writing
transaction is short, and no reader sees the predictions of two versions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.labels.classifier import Model, unpack
from e2vsearch.analysis.labels.train import newest, report_of
from e2vsearch.analysis.labels.types import Classified, ClassifiedSegment
from e2vsearch.audio import AudioSource
from e2vsearch.catalog import labels as rows
from e2vsearch.catalog.labels import Predictions, StoredClassifier
from e2vsearch.errors import AnalysisError, QueryError, SpaceMismatch
from e2vsearch.feed import Batch
from e2vsearch.files import local_path
from e2vsearch.pipeline import stored_audio
from e2vsearch.types import EmbeddedAudio

DEFAULT_MIN_SCORE = 0.5
"""Below, a label is less likely than all others together."""

_BATCH = 4096  # segments whose vectors are in memory at once: 16 MB of 1024-d vectors


def classify(
    context: AnalysisContext,
    name: str | None = None,
    where: str | None = None,
    *,
    min_score: float = DEFAULT_MIN_SCORE,
    progress: Callable[[int, int], None] | None = None,
) -> Classified:
    """Classify the collection's segments by the newest version of a classifier, and store confident predictions.

    Segments that this version has classified before are left out, unless another `min_score` or a filter is given.
    Labels of older versions are replaced in the same transaction. Labels that a person gave stay, and take precedence.

    Args:
        context: the collection's.
        name: of the classifier; by default the one trained last.
        where: only these segments.
        min_score: least probability of the likeliest label; less confident predictions are not stored, nor those of
            the contrast label of a classifier of one label.
        progress: called with segments done and in all.

    Raises:
        NotStored: there is no such classifier.
        BadFilter: the filter makes no sense.
        SpaceMismatch, AnalysisError: the classifier does not fit the collection, or is damaged.
        QueryError: a `min_score` that is no probability.
    """
    if not 0.0 <= min_score <= 1.0:
        raise QueryError(f"min_score is a probability from 0 to 1, not {min_score:g}")
    started = time.perf_counter()
    stored, model = open_classifier(context, name)
    contrast = report_of(stored).contrast
    excluded = stored.labels.index(contrast) if contrast is not None else -1
    feed = context.catalog.feed()
    with feed.snapshot() as snapshot:
        watermark, total = snapshot.watermark, snapshot.count
        ids: NDArray[np.int64] | None = None
        if where is not None:
            ids = context.catalog.select(where)
        elif (classified_to := _classified_to(stored, min_score, watermark)) is not None:
            ids = feed.changes_since(classified_to).added
        batches = snapshot.batches() if ids is None else batches_of(context, ids)
        count = total if ids is None else ids.size
        scored, predictions = _predict(model, batches, min_score, excluded, count, progress)
    catalog = context.catalog
    upto = watermark if where is None else None
    stored_count = rows.replace_predictions(catalog, stored, predictions, ids, upto, min_score)
    skipped = max(total - scored, 0) if where is None else 0
    labels = rows.predicted(catalog, stored.id)
    seconds = time.perf_counter() - started
    return Classified(stored.name, stored.version, scored, stored_count, skipped, labels, min_score, where, seconds)


def classify_audio(
    context: AnalysisContext, source: AudioSource, name: str | None = None
) -> tuple[ClassifiedSegment, ...]:
    """Return the predictions of the newest version of a classifier for a clip's segments; nothing is stored.

    Args:
        context: the collection's.
        source: a file, its bytes, 16 kHz samples, or an id: ``seg:12``, ``call:3``.
        name: of the classifier; by default the one trained last.

    Raises:
        NotStored: there is no such classifier, segment or recording.
        QueryError: it has no speech.
        AudioError, EncoderError: it cannot be read or encoded.
        SpaceMismatch, AnalysisError: the classifier does not fit the collection, or is damaged.
    """
    stored, model = open_classifier(context, name)
    segments = _embedded(context, source).segments
    probabilities = model.probabilities(np.stack([segment.vector for segment in segments]))
    made = []
    for segment, row in zip(segments, probabilities.tolist(), strict=True):
        best = int(np.argmax(row))
        scores = dict(zip(stored.labels, row, strict=True))
        where = segment.channel, segment.start_s, segment.end_s
        made.append(ClassifiedSegment(*where, stored.labels[best], row[best], scores))
    return tuple(made)


def open_classifier(context: AnalysisContext, name: str | None) -> tuple[StoredClassifier, Model]:
    """Return the newest version of a classifier, ready to use; without a name, the one trained last.

    Raises:
        NotStored: there is none.
        SpaceMismatch: it takes vectors of another space.
        AnalysisError: it is damaged.
    """
    stored = newest(context, name)
    space = context.catalog.require_space()
    if stored.space != context.catalog.space_number:
        raise SpaceMismatch(f"classifier {stored.name!r} takes vectors of another space than {space} - train it again")
    try:
        return stored, unpack(stored.parameters, len(stored.labels), space.dim)
    except ValueError as error:
        raise AnalysisError(f"classifier {stored.name!r} is damaged ({error}) - train it again") from error


def batches_of(context: AnalysisContext, ids: NDArray[np.int64]) -> Iterator[Batch]:
    """Yield those of the segments that are still stored, some thousands at a time."""
    feed = context.catalog.feed()
    for start in range(0, ids.size, _BATCH):
        yield feed.fetch(ids[start : start + _BATCH])


def _classified_to(stored: StoredClassifier, min_score: float, watermark: int) -> int | None:
    """Return the watermark up to which this version has classified all segments, None for all anew."""
    if stored.watermark is None or stored.min_score != min_score:
        return None
    # a database restored into another Postgres server counts its transactions from the start again
    return stored.watermark if stored.watermark <= watermark else None


def _predict(
    model: Model,
    batches: Iterator[Batch],
    min_score: float,
    excluded: int,
    total: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[int, Predictions]:
    ids, labels, scores = [np.empty(0, np.int64)], [np.empty(0, np.int16)], [np.empty(0, np.float32)]
    done = 0
    for batch in batches:
        if batch.ids.size:
            probabilities = model.probabilities(batch.vectors)
            best = probabilities.argmax(axis=1)
            score = probabilities[np.arange(best.size), best]
            kept = (score >= min_score) & (best != excluded)
            ids.append(batch.ids[kept])
            labels.append(best[kept].astype(np.int16))
            scores.append(score[kept].astype(np.float32))
        done += batch.ids.size
        if progress is not None:
            progress(done, total)
    return done, Predictions(np.concatenate(ids), np.concatenate(labels), np.concatenate(scores))


def _embedded(context: AnalysisContext, source: AudioSource) -> EmbeddedAudio:
    if isinstance(source, str) and source.startswith(("seg:", "call:")):
        embedded, name = stored_audio(context.catalog, source), source
    else:
        embedded, name = context.embed(local_path(source) if isinstance(source, str) else source), "that clip"
    if not embedded.segments:
        raise QueryError(f"no speech found in {name} - give a clip in which somebody speaks")
    return embedded
