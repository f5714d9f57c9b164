"""Colours that colour-blind people can distinguish, and what each stands for.

Colour is never alone: every cluster is named on the picture and in the list beside the page.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.maps.types import NONE, Cluster

COLOURS = (
    "#4477AA",
    "#EE6677",
    "#228833",
    "#CCBB44",
    "#66CCEE",
    "#AA3377",
    "#EE8866",
    "#332288",
    "#44BB99",
    "#BBCC33",
    "#882255",
    "#99DDFF",
)
"""Paul Tol's "bright", then from his "light" and "muted" what differs most from those (SRON technical note, 2021)."""

GREY = "#C9CCD1"
"""Of points in no cluster."""

PALE = "#DFE1E5"
"""Of points of which no emotion is named."""


def colours(clusters: Sequence[Cluster]) -> dict[int, str]:
    """Return a colour for each cluster, by number; with more clusters than colours, near ones differ if possible.

    The first get the colours in order; each later one the colour whose nearest other bearer is farthest from it.
    """
    found: dict[int, str] = {NONE: GREY}
    for nth, cluster in enumerate(clusters):
        if nth < len(COLOURS):
            found[cluster.number] = COLOURS[nth]
            continue
        room = {
            colour: min(
                (cluster.x - other.x) ** 2 + (cluster.y - other.y) ** 2
                for other in clusters[:nth]
                if found[other.number] == colour
            )
            for colour in COLOURS
        }
        found[cluster.number] = max(room, key=lambda colour: room[colour])
    return found


def dot(count: int, area: float) -> float:
    """Return the diameter of a dot so that `count` of them cover about a tenth of `area`, in its unit."""
    return float(np.clip(np.sqrt(area * 0.1 / max(count, 1) * 4 / np.pi), 2.0, 9.0))


def order(cluster: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return points with those in no cluster first, so that they are drawn below the others."""
    return np.argsort(cluster >= 0, kind="stable")
