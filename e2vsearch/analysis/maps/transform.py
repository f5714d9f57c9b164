"""New vectors on an existing map, placed by their nearest mapped neighbours without computing it anew.

The cluster is the one with most votes of the neighbours, weighted by nearness; the place is the mean of those
neighbours that are in it, so that a point between two clusters lies in one and not in the void between. A vector
farther from its neighbours than 99 % of the mapped ones are from theirs (`Layout.reach`) is in no cluster.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.maps.types import NONE, Layout, Progress
from e2vsearch.vectors import exact

_QUERIES = 1024  # at a time


def transform(
    vectors: NDArray[np.float32],
    mapped: NDArray[np.float32],
    layout: Layout,
    neighbors: int,
    progress: Progress | None = None,
) -> Layout:
    """Return coordinates and clusters of new vectors on a map.

    Args:
        vectors: ``(q, dim)`` unit rows.
        mapped: ``(n, dim)`` unit rows of the points that the map was made of, at least one; none that was placed
            later, or errors would add up.
        layout: of those points.
        neighbors: number of neighbours, as the map was made with.
        progress: see `Progress`.
    """
    count, k = len(vectors), min(neighbors, len(mapped))
    x, y = np.zeros(count, np.float32), np.zeros(count, np.float32)
    cluster, strength = np.full(count, NONE, np.int32), np.zeros(count, np.float32)
    for start in range(0, count, _QUERIES):
        part = slice(start, min(start + _QUERIES, count))
        scores, rows = exact.top(vectors[part], mapped, k)
        distances = np.clip(1.0 - scores, 0.0, 2.0)
        weights = _weights(distances)
        clusters = layout.cluster[rows]
        # (q, k, k): what each neighbour's cluster gets from all neighbours; its first best column is the winner's
        votes = ((clusters[:, :, None] == clusters[:, None, :]) * weights[:, None, :]).sum(2)
        best = np.argmax(votes, axis=1)[:, None]
        winner, share = np.take_along_axis(clusters, best, 1), np.take_along_axis(votes, best, 1)[:, 0]
        agreeing = np.where(clusters == winner, weights, 0.0)
        agreeing /= agreeing.sum(1, keepdims=True)
        x[part], y[part] = (agreeing * layout.x[rows]).sum(1), (agreeing * layout.y[rows]).sum(1)
        near = (distances.mean(1) <= layout.reach) & (winner[:, 0] != NONE)
        cluster[part] = np.where(near, winner[:, 0], NONE)
        strength[part] = np.where(near, share * (agreeing * layout.strength[rows]).sum(1), 0.0)
        if progress is not None:
            progress("placing", part.stop, count)
    return Layout(x, y, cluster, strength)


def _weights(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return neighbours' weights, summing to one, by how much farther than the first they are."""
    beyond = distances - distances[:, :1]
    scale = np.maximum(beyond.mean(1, keepdims=True), 1e-9)
    weights = np.exp(-beyond / scale)
    normed: NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return normed
