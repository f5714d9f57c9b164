"""Segments that a projection is made from: their vectors, voices and scores. Knows the catalog, no projections."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import labels, segments
from e2vsearch.catalog.writer import Catalog
from e2vsearch.feed import Batch

SAMPLE = 20_000
"""Segments that centres and scatters are taken from, at most: 80 MB of 1024-d vectors, 36 MB of ``light``'s."""


def sampled(catalog: Catalog, seed: int = 0) -> Batch:
    """Segments with their vectors as the encoder made them; of more than `SAMPLE` so many, drawn with that seed."""
    ids = labels.segment_ids(catalog)
    if ids.size > SAMPLE:
        ids = np.sort(np.random.default_rng(seed).choice(ids, SAMPLE, replace=False))
    return catalog.feed().fetch(ids)


def voices_of(
    catalog: Catalog, ids: NDArray[np.int64], speakers: Mapping[int, tuple[str, ...]] | None = None
) -> NDArray[np.int64]:
    """Which segments are surely of one voice: of a recording's channel, or of a speaker that is named.

    Args:
        catalog: where.
        ids: ``(n,)`` segments.
        speakers: what names who speaks, by recording; recordings without a name count by themselves.

    Returns:
        ``(n,)`` numbers, -1 for segments that are gone.
    """
    found = segments.segment_columns(catalog, segments=ids.tolist())
    codes: dict[tuple[object, int], int] = {}
    of = {}
    for number, recording, channel in zip(
        found.ids.tolist(), found.recordings.tolist(), found.channels.tolist(), strict=True
    ):
        named = (speakers or {}).get(recording, ())
        of[number] = codes.setdefault((named if any(named) else recording, channel), len(codes))
    return np.array([of.get(number, -1) for number in ids.tolist()], np.int64)
