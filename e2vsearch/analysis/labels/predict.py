"""A stored classifier, applied to the collection or to a clip. Knows batches of vectors, nothing of training.

The collection is streamed and predictions kept as 14 bytes a segment until they are stored together: the writing
transaction is short, and nobody sees a collection that is half judged by one version and half by another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.labels.classifier import Model, unpack
from e2vsearch.analysis.labels.train import newest, report_of
from e2vsearch.analysis.labels.types import Classified, ClassifiedMoment
from e2vsearch.audio import AudioSource
from e2vsearch.catalog import labels as rows
from e2vsearch.catalog.labels import Predictions, StoredClassifier
from e2vsearch.collection import Collection
from e2vsearch.errors import AnalysisError, QueryError, SpaceMismatch
from e2vsearch.feed import Batch
from e2vsearch.files import local_path
from e2vsearch.pipeline import stored_audio
from e2vsearch.types import EmbeddedAudio

DEFAULT_MIN_SCORE = 0.5
"""Below, a label is less likely than all others together."""

_BATCH = 4096  # segments whose vectors are in memory at once: 16 MB of 1024-d vectors


def classify(
    collection: Collection,
    name: str | None = None,
    where: str | None = None,
    *,
    min_score: float = DEFAULT_MIN_SCORE,
    progress: Callable[[int, int], None] | None = None,
) -> Classified:
    """Let the newest version of a classifier judge the collection's segments, and store what it is sure of.

    Segments that this version has judged before are passed over, unless another `min_score` or a filter is given.
    Labels of older versions go in the same transaction. What a person labelled stays, and counts more than this.

    Args:
        collection: what is judged.
        name: of the classifier; by default the one trained last.
        where: only these segments.
        min_score: of the likeliest label's probability; less sure predictions are not stored, and so none of the
            contrast label of a classifier that knows only one.
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
    stored, model = opened(collection, name)
    contrast = report_of(stored).contrast
    refused = stored.labels.index(contrast) if contrast is not None else -1
    feed = collection.catalog.feed()
    with feed.snapshot() as snapshot:
        watermark, total = snapshot.watermark, snapshot.count
        ids: NDArray[np.int64] | None = None
        if where is not None:
            ids = collection.catalog.select(where)
        elif (judged := _judged(stored, min_score, watermark)) is not None:
            ids = feed.changes_since(judged).added
        batches = snapshot.batches() if ids is None else fetched(collection, ids)
        wanted = total if ids is None else ids.size
        looked_at, predictions = _predict(model, batches, min_score, refused, wanted, progress)
    catalog = collection.catalog
    upto = watermark if where is None else None
    count = rows.replace_predictions(catalog, stored, predictions, ids, upto, min_score)
    skipped = max(total - looked_at, 0) if where is None else 0
    labels = rows.predicted(catalog, stored.id)
    seconds = time.perf_counter() - started
    return Classified(stored.name, stored.version, looked_at, count, skipped, labels, min_score, where, seconds)


def classify_audio(
    collection: Collection, source: AudioSource, name: str | None = None
) -> tuple[ClassifiedMoment, ...]:
    """What the newest version of a classifier makes of a clip, moment by moment; nothing is stored.

    Args:
        collection: whose classifier and encoder are taken.
        source: a file, its bytes, 16 kHz samples, or what is stored: ``seg:12``, ``call:3``.
        name: of the classifier; by default the one trained last.

    Raises:
        NotStored: there is no such classifier, segment or recording.
        QueryError: nobody speaks in it.
        AudioError, EncoderError: it cannot be heard or encoded.
        SpaceMismatch, AnalysisError: the classifier does not fit the collection, or is damaged.
    """
    stored, model = opened(collection, name)
    moments = _heard(collection, source).segments
    probabilities = model.probabilities(np.stack([moment.vector for moment in moments]))
    made = []
    for moment, row in zip(moments, probabilities.tolist(), strict=True):
        best = int(np.argmax(row))
        scores = dict(zip(stored.labels, row, strict=True))
        where = moment.channel, moment.start_s, moment.end_s
        made.append(ClassifiedMoment(*where, stored.labels[best], row[best], scores))
    return tuple(made)


def opened(collection: Collection, name: str | None) -> tuple[StoredClassifier, Model]:
    """The newest version of a classifier, ready to use; without a name, the one trained last.

    Raises:
        NotStored: there is none.
        SpaceMismatch: it takes vectors of another space.
        AnalysisError: it is damaged.
    """
    stored = newest(collection, name)
    space = collection.require_space()
    if stored.space != collection.catalog.space_number:
        raise SpaceMismatch(f"classifier {stored.name!r} takes vectors of another space than {space} - train it again")
    try:
        return stored, unpack(stored.parameters, len(stored.labels), space.dim)
    except ValueError as error:
        raise AnalysisError(f"classifier {stored.name!r} is damaged ({error}) - train it again") from error


def fetched(collection: Collection, ids: NDArray[np.int64]) -> Iterator[Batch]:
    """Those of the segments that are still there, some thousands at a time."""
    feed = collection.catalog.feed()
    for start in range(0, ids.size, _BATCH):
        yield feed.fetch(ids[start : start + _BATCH])


def _judged(stored: StoredClassifier, min_score: float, watermark: int) -> int | None:
    """The watermark up to which this version has judged everything, None if it has to begin anew."""
    if stored.watermark is None or stored.min_score != min_score:
        return None
    # a database restored into another Postgres server counts its transactions from the start again
    return stored.watermark if stored.watermark <= watermark else None


def _predict(
    model: Model,
    batches: Iterator[Batch],
    min_score: float,
    refused: int,
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
            kept = (score >= min_score) & (best != refused)
            ids.append(batch.ids[kept])
            labels.append(best[kept].astype(np.int16))
            scores.append(score[kept].astype(np.float32))
        done += batch.ids.size
        if progress is not None:
            progress(done, total)
    return done, Predictions(np.concatenate(ids), np.concatenate(labels), np.concatenate(scores))


def _heard(collection: Collection, source: AudioSource) -> EmbeddedAudio:
    if isinstance(source, str) and source.startswith(("seg:", "call:")):
        heard, named = stored_audio(collection.catalog, source), source
    else:
        heard, named = collection.hear(local_path(source) if isinstance(source, str) else source), "that clip"
    if not heard.segments:
        raise QueryError(f"no speech found in {named} - give a clip in which somebody speaks")
    return heard
