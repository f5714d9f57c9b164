"""The projection that a collection adopts by itself: installed with its space, refitted as the collection grows.

It is what ships with the encoder, else the projection of the encoder's linear head; without either there is none. A
collection is searched through it from the first segment on. It is fitted to the collection's own segments as soon as
there are enough, and again whenever there are twice as many. The head's weights are stored beside its projection, so
that refitting opens no encoder.

Without the encoder, because vectors were made elsewhere or the collection is older than this, the head is recovered
from the scores of stored segments; the encoder's own replaces it at the next ingest that opens it. Another projection
that is put to use, or stored under that name, is left alone.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from e2vsearch.catalog import projections, segments
from e2vsearch.catalog.projections import StoredProjection
from e2vsearch.catalog.writer import Catalog
from e2vsearch.encoders.base import Encoder
from e2vsearch.errors import AnalysisError, EncoderError
from e2vsearch.feed import Batch
from e2vsearch.projections import adapt, head, linear, network, recalibrate
from e2vsearch.projections.recalibrate import fitted_to
from e2vsearch.projections.sample import sample_segments, speakers_of
from e2vsearch.types import Head, Space

NAMES = (network.NAME, adapt.NAME)
"""Under which a collection stores the projection that it adopts."""

LEAST_SEGMENTS = head.LEAST_SEGMENTS
"""Fewer do not show where a collection lies: 20 clips of EMO-DB bring .007 of .037 mAP."""

ADOPTED = "adopted"
"""Key of a report: the collection adopted the projection by itself, and refits it as it grows."""

OWN = "the encoder's own"
"""In a report, where the head comes from."""

_GROWTH = 2  # times as many segments as it was fitted to: fit again
_LINEAR = ("emotion2vec", "saved")  # prefixes of encoders whose scores are a linear head's


def install(catalog: Catalog, encoder: Encoder) -> None:
    """Store the projection of an encoder in a collection that is pinned to its space, and put it to use.

    Nothing happens where it is stored already, in use or not. A stored one that cannot be read, being damaged or of an
    earlier format, is replaced. That of a head is put to use only where no projection was ever stored.

    Raises:
        EncoderError: the projection or head does not fit the encoder's space.
    """
    data = encoder.projection()
    if data is None:
        of = encoder.head()
        if of is not None:
            _install_head(catalog, encoder.space, of)
        return
    before = projections.find(catalog, network.NAME)
    if before is not None and _readable(before):
        return
    ships = network.unpack(data)
    if len(ships.means) != len(encoder.space.labels):
        name, count = encoder.space.encoder, len(encoder.space.labels)
        raise EncoderError(f"encoder {name} has {count} classes, and its projection {len(ships.means)}")
    projections.put(catalog, _shipped(ships, 0))
    if before is None and projections.used(catalog) is None:
        projections.use(catalog, network.NAME)


def refit(catalog: Catalog, *, rows: int = recalibrate.ROWS, anew: bool = False) -> str | None:
    """Fit the adopted projection to the collection, if that has grown enough since, and score segments by it.

    Where none is stored, the head is recovered from scores if it can be. Stopped at any time, the next call continues.

    Args:
        catalog: of the collection.
        rows: segments scored in one transaction.
        anew: fit it though the collection has not grown, so that nothing of removed segments is left in it.

    Returns:
        The revision that is replaced, whose index is of no more use; None if nothing was to be done.

    Raises:
        AnalysisError: the stored projection is damaged.
    """
    before = _adopted(catalog)
    if before is None:
        install_recovered_head(catalog)
        return None
    after, count = before, _grown(catalog, before)
    if anew and count is None and _is_adopted(before) and fitted_to(before):
        count, _, _ = segments.count_of(catalog)
    if count is not None:
        after = _recenter(catalog, before, count) if before.kind == network.KIND else _readapt(catalog, before)
    if before.kind == network.KIND:
        recalibrate.rescore(catalog, after, rows)
    return None if after.revision == before.revision else before.revision


def refit_due(catalog: Catalog) -> str | None:
    """Return why `refit` has something to do; None if it has not."""
    stored = _adopted(catalog)
    if stored is None:
        return "the head that made the stored scores is not in use yet" if _recoverable(catalog) else None
    count = _grown(catalog, stored)
    if count is not None:
        return f"the projection was fitted to {fitted_to(stored)} segments, and {count} are there"
    unscored = recalibrate.unscored(catalog, stored) if stored.kind == network.KIND else np.empty(0)
    return f"{unscored.size} segments have no scores by the projection yet" if unscored.size else None


def install_recovered_head(catalog: Catalog) -> None:
    """Adopt the projection of the head that stored scores tell of, where raw vectors were never chosen."""
    recovered = _recovered_head(catalog, sample_segments(catalog)) if _recoverable(catalog) else None
    if recovered is not None:
        _adopt_head(catalog, *recovered)


def _adopted(catalog: Catalog) -> StoredProjection | None:
    return projections.find(catalog, network.NAME) or projections.find(catalog, adapt.NAME)


def _is_adopted(stored: StoredProjection) -> bool:
    """Return whether the collection adopted it by itself; another of that name is a person's."""
    return stored.kind == network.KIND or bool(stored.report.get(ADOPTED))


def _grown(catalog: Catalog, stored: StoredProjection) -> int | None:
    """Return the number of segments, if the collection has grown enough to fit the projection to it again."""
    shipped = stored.kind == network.KIND
    if not _is_adopted(stored):
        return None
    count, _, _ = segments.count_of(catalog)
    before = fitted_to(stored)
    grown = count >= max(LEAST_SEGMENTS if shipped else 1, _GROWTH * before) or before < LEAST_SEGMENTS <= count
    return count if grown else None


def _recenter(catalog: Catalog, before: StoredProjection, count: int) -> StoredProjection:
    vectors = sample_segments(catalog).vectors
    centred = network.unpack(before.parameters).centred(vectors if len(vectors) >= LEAST_SEGMENTS else vectors[:0])
    if centred.revision == before.revision:
        after = replace(before, report={**before.report, "segments": count})
        projections.report(catalog, after)
    else:
        after = _shipped(centred, count)
        projections.put(catalog, after)
    return after


def _readapt(catalog: Catalog, before: StoredProjection) -> StoredProjection:
    batch = sample_segments(catalog)
    source = str(before.report.get("head"))
    recovered = None if source == OWN else _recovered_head(catalog, batch)
    after = _of_head(catalog, batch, *(recovered or (adapt.stored_head(before.parameters), source)))
    latest = projections.find(catalog, adapt.NAME)
    if latest is None or latest.revision != before.revision:  # another was stored meanwhile
        return before
    projections.put(catalog, after)
    return after


def _install_head(catalog: Catalog, space: Space, of: Head) -> None:
    if of.weights.shape != (len(space.labels), space.dim):
        raise EncoderError(
            f"encoder {space.encoder} has {len(space.labels)} classes and vectors of {space.dim} numbers, and a head "
            f"of shape {of.weights.shape}"
        )
    before = projections.find(catalog, adapt.NAME)
    if before is None:
        _adopt_head(catalog, of, OWN)
    elif before.report.get(ADOPTED) and not _is_of_head(before, of, space.dim):
        projections.put(catalog, _of_head(catalog, sample_segments(catalog), of, OWN))


def _adopt_head(catalog: Catalog, of: Head, source: str) -> None:
    """Store the first projection of a head, and put it to use where no other ever was."""
    untouched = projections.used(catalog) is None and not projections.listed(catalog)
    projections.put(catalog, _of_head(catalog, sample_segments(catalog), of, source))
    if untouched:
        projections.use(catalog, adapt.NAME)


def _shipped(made: network.NetworkProjection, count: int) -> StoredProjection:
    return StoredProjection(made.name, made.kind, made.revision, made.pack(), {"segments": count}, datetime.now(UTC))


def _of_head(catalog: Catalog, batch: Batch, of: Head, source: str) -> StoredProjection:
    speakers = speakers_of(catalog, batch.ids)
    made = adapt.adapt_head(of, batch.vectors, speakers)
    count, _, _ = segments.count_of(catalog)
    report = {ADOPTED: True, "segments": count, "speakers": int(np.unique(speakers).size), "head": source}
    report |= {"share": made.share}
    packed = adapt.pack_with_head(made, of)
    return StoredProjection(made.name, made.kind, made.revision, packed, report, datetime.now(UTC))


def _recovered_head(catalog: Catalog, batch: Batch) -> tuple[Head, str] | None:
    """Return the head by the scores of stored segments, and its source; None where fewer than 20 have any."""
    ids, scores = segments.scores(catalog, batch.ids)
    if len(ids) < LEAST_SEGMENTS:
        return None
    recovered = head.recover_head(batch.vectors[np.isin(batch.ids, ids)], scores)
    return recovered, f"found by the scores of {len(ids)} segments"


def _recoverable(catalog: Catalog) -> bool:
    """Return whether the collection has raw vectors by default, and scores that a head can be recovered from."""
    space = catalog.space
    if space is None or not space.labels or not space.encoder.startswith(_LINEAR):
        return False
    count, _, _ = segments.count_of(catalog)
    if projections.used(catalog) is not None or segments.scored(catalog) < max(LEAST_SEGMENTS, count / 2):
        return False
    return not projections.listed(catalog)


def _readable(stored: StoredProjection) -> bool:
    try:
        network.unpack(stored.parameters)
    except AnalysisError:
        return False
    return True


def _is_of_head(stored: StoredProjection, of: Head, dim: int) -> bool:
    """Return whether a stored projection can be read, and was made of that head."""
    try:
        known = adapt.stored_head(stored.parameters)
        linear.unpack(stored.parameters, stored.kind, stored.name, dim)
    except AnalysisError:
        return False
    return np.array_equal(known.weights, of.weights) and np.array_equal(known.biases, of.biases)
