"""The projection of an encoder's head, in a collection: adopted with its space, adapted as it grows.

A collection whose encoder has a linear head and ships no projection is searched through that head from its first
segment on. It is adapted to the collection's own segments after the first ingest, and again whenever there are twice as
many. The head's weights are stored beside the projection, so that no encoder need be opened for it.

Where the encoder is not at hand, because vectors were made elsewhere or the collection is older than this, the head is
found by the scores of stored segments; the encoder's own replaces it at the next ingest that opens it. Whoever puts
another projection to use, or stores one of that name, is left alone.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from e2vsearch.catalog import projections, segments
from e2vsearch.catalog.projections import StoredProjection
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import AnalysisError, EncoderError
from e2vsearch.feed import Batch
from e2vsearch.projections import adapt, head, linear
from e2vsearch.projections.sampling import sampled, voices_of
from e2vsearch.types import Head, Space

ADOPTED = "adopted"
"""In a report: the collection made the projection by itself, and makes it anew as it grows."""

OWN = "the encoder's own"
"""In a report, where the head comes from."""

_GROWN = 2  # times as many segments as were there when it was adapted: adapt again

_LINEAR = ("emotion2vec", "saved")  # what encoders are called whose scores are a linear head's


def install(catalog: Catalog, space: Space, of: Head | None) -> None:
    """Store the projection of an encoder's head in a collection that is pinned to its space, and search through it.

    It is put to use where no projection was ever stored. Nothing happens without a head, or where it is stored already.

    Raises:
        EncoderError: the head does not fit the space.
    """
    if of is None:
        return
    if of.weights.shape != (len(space.labels), space.dim):
        raise EncoderError(
            f"encoder {space.encoder} has {len(space.labels)} classes and vectors of {space.dim} numbers, and a head "
            f"of shape {of.weights.shape}"
        )
    before = projections.find(catalog, adapt.NAME)
    if before is None:
        _begin(catalog, of, OWN)
    elif before.report.get(ADOPTED) and not _sound(before, of, space.dim):
        projections.put(catalog, _made(catalog, sampled(catalog), of, OWN))


def refit(catalog: Catalog) -> str | None:
    """Adapt the collection's projection, if it has grown enough since; adopt one, if its head can be found by scores.

    Returns:
        The revision that is replaced, whose index is of no more use; None if nothing was to be done.

    Raises:
        AnalysisError: the stored projection is damaged.
    """
    before = projections.find(catalog, adapt.NAME)
    if before is None:
        install_found(catalog)
    if before is None or _grown(catalog, before) is None:
        return None
    batch = sampled(catalog)
    source = str(before.report.get("head"))
    of, source = (None if source == OWN else _found(catalog, batch)) or (adapt.kept_head(before.parameters), source)
    now = _made(catalog, batch, of, source)
    latest = projections.find(catalog, adapt.NAME)
    if latest is None or latest.revision != before.revision:  # somebody stored another one meanwhile
        return None
    projections.put(catalog, now)
    return None if now.revision == before.revision else before.revision


def install_found(catalog: Catalog) -> None:
    """Adopt the projection of the head that stored scores tell of, where raw vectors were never chosen."""
    found = _found(catalog, sampled(catalog)) if _findable(catalog) else None
    if found is not None:
        _begin(catalog, *found)


def refit_due(catalog: Catalog) -> str | None:
    """Why `refit` has something to do; None if it has not."""
    before = projections.find(catalog, adapt.NAME)
    if before is None:
        return "the head that made the stored scores is not in use yet" if _findable(catalog) else None
    count = _grown(catalog, before)
    return None if count is None else f"the projection was adapted to {_seen(before)} segments, and {count} are there"


def _begin(catalog: Catalog, of: Head, source: str) -> None:
    """Store the first projection, and put it to use where nothing else ever was."""
    untouched = projections.used(catalog) is None and not projections.listed(catalog)
    projections.put(catalog, _made(catalog, sampled(catalog), of, source))
    if untouched:
        projections.use(catalog, adapt.NAME)


def _made(catalog: Catalog, batch: Batch, of: Head, source: str) -> StoredProjection:
    voices = voices_of(catalog, batch.ids)
    made = adapt.of_collection(of, batch.vectors, voices)
    count, _, _ = segments.count_of(catalog)
    voiced = int(np.unique(voices).size)
    report = {ADOPTED: True, "segments": count, "voices": voiced, "head": source, "share": made.share}
    return StoredProjection(made.name, made.kind, made.revision, adapt.packed(made, of), report, datetime.now(UTC))


def _found(catalog: Catalog, batch: Batch) -> tuple[Head, str] | None:
    """The head by the scores of stored segments, and how it was found; None where fewer than 20 have any."""
    ids, scores = segments.scores(catalog, batch.ids)
    if len(ids) < head.LEAST_SEGMENTS:
        return None
    return head.recovered(batch.vectors[np.isin(batch.ids, ids)], scores), f"found by the scores of {len(ids)} segments"


def _findable(catalog: Catalog) -> bool:
    """Whether the collection was left on raw vectors by default, and a head can be found by its scores."""
    space = catalog.space
    if space is None or not space.labels or not space.encoder.startswith(_LINEAR):
        return False
    count, _, _ = segments.count_of(catalog)
    if projections.used(catalog) is not None or segments.scored(catalog) < max(head.LEAST_SEGMENTS, count / 2):
        return False
    return not projections.listed(catalog)


def _sound(found: StoredProjection, of: Head, dim: int) -> bool:
    """Whether a stored projection can be read, and was made of that head."""
    try:
        kept = adapt.kept_head(found.parameters)
        linear.unpack(found.parameters, found.kind, found.name, dim)
    except AnalysisError:
        return False
    return np.array_equal(kept.weights, of.weights) and np.array_equal(kept.biases, of.biases)


def _grown(catalog: Catalog, found: StoredProjection) -> int | None:
    """How many segments there are, if that are enough to adapt it anew."""
    if not found.report.get(ADOPTED):
        return None
    count, _, _ = segments.count_of(catalog)
    seen = _seen(found)
    grown = count >= max(1, _GROWN * seen) or seen < head.LEAST_SEGMENTS <= count
    return count if grown else None


def _seen(found: StoredProjection) -> int:
    """How many segments there were when it was adapted."""
    return int(found.report.get("segments", 0))
