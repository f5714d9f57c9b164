"""Class probabilities by a collection's shipped projection, once that is centred on the collection.

The centre helps naming emotions as it helps comparing them. Stored segments are scored anew whenever it moves, and
those that came since are scored by it as well: the change feed tells which. Until then scores are the encoder's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import labels, projections
from e2vsearch.catalog.projections import SCORED_TO, StoredProjection
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import AnalysisError
from e2vsearch.projections import network
from e2vsearch.projections.base import Projection
from e2vsearch.types import EmbeddedAudio

ROWS = 2000
"""Segments scored in one transaction: others wait 33 ms for it, and 7 MB of float64 are held."""


def recalibrate(projection: Projection, embedded: EmbeddedAudio) -> EmbeddedAudio:
    """Return embedded audio with the class probabilities of a projection, unchanged where that has none."""
    if not isinstance(projection, network.NetworkProjection) or not embedded.segments:
        return embedded
    scores = projection.scores(np.stack([segment.vector for segment in embedded.segments]))
    segments = tuple(replace(segment, scores=row) for segment, row in zip(embedded.segments, scores, strict=True))
    return replace(embedded, segments=segments)


def recalibrate_stored(catalog: Catalog, embedded: EmbeddedAudio) -> EmbeddedAudio:
    """Return embedded audio with class probabilities like those of stored segments.

    They are the encoder's before the projection is centred, and where it cannot be read: searching raw vectors
    meanwhile needs none.
    """
    stored = projections.find(catalog, network.NAME)
    if stored is None or not fitted_to(stored):
        return embedded
    try:
        return recalibrate(network.unpack(stored.parameters), embedded)
    except AnalysisError:
        return embedded


def rescore(catalog: Catalog, stored: StoredProjection, rows: int = ROWS) -> None:
    """Score the segments that a centred projection has not scored, `rows` in a transaction.

    Stopped at any time, the next call continues: the watermark is stored when all of them have scores. Nothing is
    written once another process has replaced the projection, which then scores all of them itself.
    """
    if not fitted_to(stored):
        return
    feed = catalog.feed()
    with feed.snapshot() as snapshot:  # before `unscored` reads: too low a watermark only scores twice
        watermark = snapshot.watermark
    ids = unscored(catalog, stored)
    if ids.size:
        projection = network.unpack(stored.parameters)
        for start in range(0, ids.size, rows):
            batch = feed.fetch(ids[start : start + rows])
            if not projections.put_scores(catalog, batch.ids, projection.scores(batch.vectors), stored):
                return
    if watermark != stored.report.get(SCORED_TO):
        projections.report(catalog, replace(stored, report={**stored.report, SCORED_TO: watermark}))


def unscored(catalog: Catalog, stored: StoredProjection) -> NDArray[np.int64]:
    """Return the ids of segments without scores by a centred projection."""
    if not fitted_to(stored):
        return np.empty(0, np.int64)
    watermark = stored.report.get(SCORED_TO)
    return labels.segment_ids(catalog) if watermark is None else catalog.feed().changes_since(int(watermark)).added


def fitted_to(stored: StoredProjection) -> int:
    """Return the number of segments in the collection when the projection was fitted to it, 0 if it was not."""
    return int(stored.report.get("segments", 0))
