"""A map as SVG: a dot a point, the names of the largest clusters above them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from e2vsearch.notebook import markup
from e2vsearch.palette import GREY

_SIZE = 640  # pixels
_MOST = 4000  # dots: 100,000 would be 6 MB of the page
_NAMED = 24  # clusters with a name


def scatter(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    colours: Sequence[str],
    names: Sequence[tuple[str, float, float]],
    caption: str,
) -> str:
    """Return a picture of points.

    Args:
        x: ``(n,)`` from -1 to 1.
        y: ``(n,)`` from -1 to 1.
        colours: of each point.
        names: of clusters, the largest first, and where each belongs.
        caption: below it.
    """
    step = -(-len(x) // _MOST) or 1
    radius = 3 if len(x) < 1000 else 2
    half = _SIZE / 2
    dots = "".join(
        f'<circle cx="{half * (1 + a):.1f}" cy="{half * (1 - b):.1f}" r="{radius}" fill="{colour}"/>'
        for a, b, colour in zip(x[::step].tolist(), y[::step].tolist(), colours[::step], strict=True)
    )
    words = "".join(
        f'<text x="{half * (1 + a):.1f}" y="{half * (1 - b):.1f}" text-anchor="middle">{markup.text(name)}</text>'
        for name, a, b in names[:_NAMED]
    )
    drawn = f"{caption}; every {step}th point is drawn" if step > 1 else caption
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{_SIZE}" height="{_SIZE}" '
        f'viewBox="-10 -10 {_SIZE + 20} {_SIZE + 20}" font-family="sans-serif" font-size="12" '
        f'style="max-width:100%;height:auto"><title>{markup.text(drawn)}</title><g fill-opacity="0.75">{dots}</g>'
        f'<g fill="currentColor" font-weight="bold">{words}</g></svg><p>{markup.text(drawn)}</p>'
    )


def no_cluster() -> str:
    """Return the colour of a point in no cluster."""
    return GREY.light
