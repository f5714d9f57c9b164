"""Which colour of `e2vsearch.palette` a cluster has, and how points are drawn: size and order.

A cluster has the colour of its main emotion, tinted where several share it; one without has a colour of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.maps.types import NONE, Cluster
from e2vsearch.palette import CATEGORIES, GREY, Colour, tints

__all__ = ["CATEGORIES", "GREY", "Colour", "cluster_colours", "colours", "dot", "order"]


def cluster_colours(clusters: Sequence[Cluster]) -> dict[int, Colour]:
    """Return the colour of each cluster, by number, and of points in none."""
    found = tints([cluster.main_emotion for cluster in clusters])
    return {NONE: GREY} | {cluster.number: colour for cluster, colour in zip(clusters, found, strict=True)}


def colours(clusters: Sequence[Cluster]) -> dict[int, str]:
    """Return the colour of each cluster on a light ground, by number, and of points in none."""
    return {number: colour.light for number, colour in cluster_colours(clusters).items()}


def dot(count: int, area: float) -> float:
    """Return the diameter of a dot so that `count` of them cover about a tenth of `area`, in its unit."""
    return float(np.clip(np.sqrt(area * 0.1 / max(count, 1) * 4 / np.pi), 2.0, 9.0))


def order(cluster: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return points with those in no cluster first, so that they are drawn below the others."""
    return np.argsort(cluster >= 0, kind="stable")
