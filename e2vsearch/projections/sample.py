"""Segments that a projection is fitted to: their vectors and speakers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import labels, segments
from e2vsearch.catalog.writer import Catalog
from e2vsearch.feed import Batch

SAMPLE = 20_000
"""Segments that centres and scatters are taken from, at most: 80 MB of 1024-d vectors, 36 MB of ``light``'s."""


def sample_segments(catalog: Catalog, seed: int = 0) -> Batch:
    """Return segments with the encoder's vectors; of more than `SAMPLE`, so many drawn with that seed."""
    ids = labels.segment_ids(catalog)
    if ids.size > SAMPLE:
        ids = np.sort(np.random.default_rng(seed).choice(ids, SAMPLE, replace=False))
    return catalog.feed().fetch(ids)


def speakers_of(
    catalog: Catalog, ids: NDArray[np.int64], names: Mapping[int, tuple[str, ...]] | None = None
) -> NDArray[np.int64]:
    """Return the speaker of each segment: a recording's channel, or a speaker that is named.

    Args:
        catalog: where the segments are.
        ids: ``(n,)`` segments.
        names: of speakers, by recording; without a name a recording counts by itself.

    Returns:
        ``(n,)`` numbers, -1 for segments that were removed.
    """
    found = segments.segment_columns(catalog, segments=ids.tolist())
    codes: dict[tuple[object, int], int] = {}
    of = {}
    for number, recording, channel in zip(
        found.ids.tolist(), found.recordings.tolist(), found.channels.tolist(), strict=True
    ):
        name = (names or {}).get(recording, ())
        of[number] = codes.setdefault((name if any(name) else recording, channel), len(codes))
    return np.array([of.get(number, -1) for number in ids.tolist()], np.int64)
