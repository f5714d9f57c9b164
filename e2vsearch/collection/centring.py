"""The projection that ships with an encoder, in a collection: adopted with its space, centred as it grows.

Knows the catalog and what encoders ship, nothing of indexes. A collection whose encoder ships a projection is searched
through it from its first segment on, resting on what the encoder was trained on. It is centred on the collection's own
segments as soon as there are enough, and again whenever there are twice as many; by hand it never needs to be.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import Catalog, labels, projections, spans
from e2vsearch.catalog.projections import StoredProjection
from e2vsearch.encoders import Encoder
from e2vsearch.feed import Batch
from e2vsearch.projections import shipped

LEAST_SEGMENTS = 20
"""Fewer say little of where a collection lies: 20 clips of EMO-DB bring .010 of .025 mAP."""

SAMPLE = 20_000
"""Segments that centres and scatters are taken from, at most: 80 MB of 1024-d vectors, 30 MB of ``light``'s."""

_GROWN = 2  # times as many segments as were there when it was centred: centre again


def adopt(catalog: Catalog, encoder: Encoder) -> None:
    """Store what an encoder ships in a collection that is pinned to its space, and search through it.

    Nothing happens where it is stored already, in use or not, and where the encoder ships none.
    """
    packed = encoder.projection()
    if packed is None or any(each.name == shipped.NAME for each in projections.listed(catalog)):
        return
    _store(catalog, shipped.unpack(packed), 0)
    if projections.used(catalog) is None:
        projections.use(catalog, shipped.NAME)


def settle(catalog: Catalog) -> str | None:
    """Centre the collection's shipped projection on it, if it has grown enough since that was done last.

    Returns:
        The revision that is replaced, whose index is of no more use; None if nothing was to be done.

    Raises:
        AnalysisError: the stored projection is damaged.
    """
    stale = _stale(catalog)
    if stale is None:
        return None
    before, count = stale
    made = shipped.unpack(before.parameters).centred(*_sample(catalog))
    if made.revision == before.revision:
        return None
    _store(catalog, made, count)
    return before.revision


def due(catalog: Catalog) -> str | None:
    """Why the shipped projection is to be centred; None if it is not, or there is none."""
    stale = _stale(catalog)
    return (
        None if stale is None else f"the projection was centred on {_seen(stale[0])} segments, and {stale[1]} are there"
    )


def sampled(catalog: Catalog, seed: int = 0) -> Batch:
    """Segments with their vectors as the encoder made them; of more than `SAMPLE` so many, drawn with that seed."""
    ids = labels.segment_ids(catalog)
    if ids.size > SAMPLE:
        ids = np.sort(np.random.default_rng(seed).choice(ids, SAMPLE, replace=False))
    return catalog.feed().fetch(ids)


def _stale(catalog: Catalog) -> tuple[StoredProjection, int] | None:
    """The shipped projection and how many segments there are, if it is to be centred."""
    found = next((each for each in projections.listed(catalog) if each.kind == shipped.KIND), None)
    if found is None:
        return None
    count, _, _ = spans.count_of(catalog)
    return (found, count) if count >= max(LEAST_SEGMENTS, _GROWN * _seen(found)) else None


def _seen(projection: StoredProjection) -> int:
    """How many segments there were when it was centred."""
    return int(projection.report.get("segments", 0))


def _sample(catalog: Catalog) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Vectors ``(n, dim)`` as the encoder made them, and their scores ``(n, classes)``; of many, a sample."""
    batch = sampled(catalog)
    classes = catalog.space.labels if catalog.space is not None else ()
    scores = np.full((batch.ids.size, len(classes)), np.nan, np.float32)
    at = {int(number): row for row, number in enumerate(batch.ids)}
    for number, segment in catalog.segments(batch.ids.tolist()):
        if segment.scores:
            scores[at[number]] = list(segment.scores.values())
    return batch.vectors, scores


def _store(catalog: Catalog, made: shipped.Shipped, segments: int) -> None:
    report = {"segments": segments, "share": made.share}
    projections.put(
        catalog,
        StoredProjection(made.name, made.kind, made.revision, made.pack(), report, projections.now()),
    )
