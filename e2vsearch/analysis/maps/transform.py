"""New vectors onto a map that stands: by their nearest mapped neighbours, without recomputing it. Knows arrays only.

The cluster is what most of the neighbours say, weighted by nearness; the place is the mean of those neighbours that say
so, so that a point between two clusters lies in the one and not in the void between. A vector farther from its
neighbours than 99 % of the mapped ones are from theirs (`Laid.reach`) is in no cluster: the map has nothing like it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.maps.types import NONE, Progress
from e2vsearch.vectors import exact

_QUERIES = 1024  # at a time


@dataclass(frozen=True, slots=True)
class Base:
    """The points that a map was made of, ``(n,)`` each; none that was placed later, or errors would add up."""

    vectors: NDArray[np.float32]  # (n, dim) unit rows
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    cluster: NDArray[np.int32]
    strength: NDArray[np.float32]
    reach: float


@dataclass(frozen=True, slots=True)
class Put:
    """Where new points go, ``(q,)`` each."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    cluster: NDArray[np.int32]
    strength: NDArray[np.float32]


def put(vectors: NDArray[np.float32], base: Base, neighbors: int, progress: Progress | None = None) -> Put:
    """The place of each vector on a map.

    Args:
        vectors: ``(q, dim)`` unit rows.
        base: what the map was made of, at least one point.
        neighbors: how many are asked; as many as the map was made with.
        progress: see `Progress`.
    """
    count, k = len(vectors), min(neighbors, len(base.vectors))
    x, y = np.zeros(count, np.float32), np.zeros(count, np.float32)
    cluster, strength = np.full(count, NONE, np.int32), np.zeros(count, np.float32)
    for start in range(0, count, _QUERIES):
        part = slice(start, min(start + _QUERIES, count))
        scores, rows = exact.top(vectors[part], base.vectors, k)
        distances = np.clip(1.0 - scores, 0.0, 2.0)
        weights = _weights(distances)
        said = base.cluster[rows]
        # (q, k, k): what each neighbour's cluster gets from all neighbours; its first best column says who won
        votes = ((said[:, :, None] == said[:, None, :]) * weights[:, None, :]).sum(2)
        best = np.argmax(votes, axis=1)[:, None]
        winner, share = np.take_along_axis(said, best, 1), np.take_along_axis(votes, best, 1)[:, 0]
        agreeing = np.where(said == winner, weights, 0.0)
        agreeing /= agreeing.sum(1, keepdims=True)
        x[part], y[part] = (agreeing * base.x[rows]).sum(1), (agreeing * base.y[rows]).sum(1)
        near = (distances.mean(1) <= base.reach) & (winner[:, 0] != NONE)
        cluster[part] = np.where(near, winner[:, 0], NONE)
        strength[part] = np.where(near, share * (agreeing * base.strength[rows]).sum(1), 0.0)
        if progress is not None:
            progress("placing", part.stop, count)
    return Put(x, y, cluster, strength)


def _weights(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each neighbour, summing to one: cosines are all near one, so what tells is how much farther than the first."""
    beyond = distances - distances[:, :1]
    scale = np.maximum(beyond.mean(1, keepdims=True), 1e-9)
    weights = np.exp(-beyond / scale)
    normed: NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return normed
