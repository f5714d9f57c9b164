"""Colours that colour-blind people tell apart, and what each stands for. Knows names and numbers, draws nothing.

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
    """A colour for each cluster by number; with more clusters than colours, near ones differ as far as they can.

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


def text_on(colour: str) -> str:
    """Black or white, whichever is read more easily on a colour (by its relative luminance, WCAG 2)."""
    channels = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "#000000" if float(linear @ [0.2126, 0.7152, 0.0722]) > 0.18 else "#FFFFFF"


def dot(count: int, area: float) -> float:
    """The diameter of a dot, in the unit whose square `area` is in, so that `count` of them cover about a tenth."""
    return float(np.clip(np.sqrt(area * 0.1 / max(count, 1) * 4 / np.pi), 2.0, 9.0))


def order(cluster: NDArray[np.int32]) -> NDArray[np.int64]:
    """Points in no cluster first, so that they are drawn below the others."""
    return np.argsort(cluster >= 0, kind="stable")
