"""The projection that a collection adopts by itself: with its space, and fitted to its segments as it grows.

Knows the catalog and what encoders ship, nothing of indexes. Where an encoder ships none, it is that of its head, see
`e2vsearch.projections.refit`; without a head it is none. A collection whose encoder ships a projection is searched
through it from its first segment on, resting on what the encoder was trained on. It is centred on the collection's own
segments as soon as there are enough, and again whenever there are twice as many; by hand it never needs to be.

The centre helps naming emotions as it helps comparing them, so stored segments get their scores anew whenever it
moves, and those that came since get theirs by it as well: the change feed tells which they are. Until then they have
the encoder's.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import labels, projections
from e2vsearch.catalog import segments as spans
from e2vsearch.catalog.projections import SCORED_TO, StoredProjection
from e2vsearch.catalog.writer import Catalog
from e2vsearch.encoders.base import Encoder
from e2vsearch.errors import AnalysisError, EncoderError
from e2vsearch.projections import adapt, network, refit
from e2vsearch.projections.base import Projection
from e2vsearch.projections.sampling import sampled
from e2vsearch.types import EmbeddedAudio

LEAST_SEGMENTS = 20
"""Fewer say little of where a collection lies: 20 clips of EMO-DB bring .007 of .037 mAP."""

BY_ITSELF = (network.NAME, adapt.NAME)
"""Names under which a collection stores what it adopts."""

_GROWN = 2  # times as many segments as were there when it was centred: centre again

_AT_ONCE = 2000  # segments scored in one transaction: others wait 33 ms for it, and 7 MB of float64 are held


def install(catalog: Catalog, encoder: Encoder) -> None:
    """Store what an encoder ships, or else what its head makes, in a collection that is pinned to its space.

    It is searched through from then on. Nothing happens where it is stored already, in use or not, and where the
    encoder has neither. One that cannot be read, being damaged or of another version, is replaced.

    Raises:
        EncoderError: what it ships does not know the encoder's classes.
    """
    packed = encoder.projection()
    if packed is None:
        refit.install(catalog, encoder.space, encoder.head())
        return
    before = projections.find(catalog, network.NAME)
    if before is not None and _sound(before) is not None:
        return
    ships = network.unpack(packed)
    if len(ships.means) != len(encoder.space.labels):
        name, count = encoder.space.encoder, len(encoder.space.labels)
        raise EncoderError(f"encoder {name} has {count} classes, and its projection {len(ships.means)}")
    _store(catalog, ships, 0)
    if before is None and projections.used(catalog) is None:
        projections.use(catalog, network.NAME)


def recenter(catalog: Catalog) -> str | None:
    """Fit what the collection adopted to it, if it has grown enough since; segments are scored by what ships.

    Killed at any moment, the next call goes on: scores are noted as given when all of them are.

    Returns:
        The revision that is replaced, whose index is of no more use; None if nothing was to be done.

    Raises:
        AnalysisError: the stored projection is damaged.
    """
    before = projections.find(catalog, network.NAME)
    if before is None:
        return refit.refit(catalog)
    now, count = before, _grown(catalog, before)
    if count is not None:
        made = network.unpack(before.parameters).centred(sampled(catalog).vectors)
        if made.revision == before.revision:
            now = replace(before, report={**before.report, "segments": count})
            projections.report(catalog, now)
        else:
            now = _store(catalog, made, count)
    _score(catalog, now)
    return None if now.revision == before.revision else before.revision


def recentering_due(catalog: Catalog) -> str | None:
    """Why `recenter` has something to do; None if it has not."""
    found = projections.find(catalog, network.NAME)
    if found is None:
        return refit.refit_due(catalog)
    count = _grown(catalog, found)
    if count is not None:
        return f"the projection was centred on {_seen(found)} segments, and {count} are there"
    unscored = _unscored(catalog, found)
    return f"{unscored.size} segments have no scores by the projection yet" if unscored.size else None


def recalibrate_stored(catalog: Catalog, found: EmbeddedAudio) -> EmbeddedAudio:
    """What was heard, its moments' scores as those of stored segments are, once the projection is centred.

    With one that cannot be read they are the encoder's: whoever searches raw vectors meanwhile needs none.
    """
    stored = projections.find(catalog, network.NAME)
    projection = None if stored is None or not _seen(stored) else _sound(stored)
    return found if projection is None else recalibrate(projection, found)


def recalibrate(projection: Projection, found: EmbeddedAudio) -> EmbeddedAudio:
    """What was heard, its moments' scores as a projection gives them; as it is, where that gives none."""
    if not isinstance(projection, network.NetworkProjection) or not found.segments:
        return found
    made = projection.scores(np.stack([segment.vector for segment in found.segments]))
    segments = tuple(replace(segment, scores=row) for segment, row in zip(found.segments, made, strict=True))
    return replace(found, segments=segments)


def _score(catalog: Catalog, found: StoredProjection) -> None:
    """Score by the centred projection what has not been; another process that centres meanwhile scores all again."""
    if not _seen(found):
        return
    feed = catalog.feed()
    with feed.snapshot() as snapshot:  # before it is asked what came: too low a mark only scores twice
        mark = snapshot.watermark
    unscored = _unscored(catalog, found)
    if unscored.size:
        projection = network.unpack(found.parameters)
        for start in range(0, unscored.size, _AT_ONCE):
            batch = feed.fetch(unscored[start : start + _AT_ONCE])
            if not projections.put_scores(catalog, batch.ids, projection.scores(batch.vectors), found):
                return
    if mark != found.report.get(SCORED_TO):
        projections.report(catalog, replace(found, report={**found.report, SCORED_TO: mark}))


def _unscored(catalog: Catalog, found: StoredProjection) -> NDArray[np.int64]:
    """Ids of segments that have no scores by a projection that is centred."""
    if not _seen(found):
        return np.empty(0, np.int64)
    mark = found.report.get(SCORED_TO)
    return labels.segment_ids(catalog) if mark is None else catalog.feed().changes_since(int(mark)).added


def _grown(catalog: Catalog, found: StoredProjection) -> int | None:
    """How many segments there are, if that are enough to centre it anew."""
    count, _, _ = spans.count_of(catalog)
    return count if count >= max(LEAST_SEGMENTS, _GROWN * _seen(found)) else None


def _sound(found: StoredProjection) -> network.NetworkProjection | None:
    """The projection, unless it cannot be read."""
    try:
        return network.unpack(found.parameters)
    except AnalysisError:
        return None


def _seen(projection: StoredProjection) -> int:
    """How many segments there were when it was centred."""
    return int(projection.report.get("segments", 0))


def _store(catalog: Catalog, made: network.NetworkProjection, segments: int) -> StoredProjection:
    report = {"segments": segments}
    stored = StoredProjection(made.name, made.kind, made.revision, made.pack(), report, datetime.now(UTC))
    projections.put(catalog, stored)
    return stored
