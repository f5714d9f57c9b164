"""A map as a picture, PNG or SVG, drawn by matplotlib off screen and without its global state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from e2vsearch.analysis.figure import FAINT, INK, new_figure, save_figure
from e2vsearch.analysis.maps import palette
from e2vsearch.analysis.maps.label_placement import place_labels
from e2vsearch.analysis.maps.types import Cluster, Map

_SIZE_IN, _EDGE_IN, _HEAD_IN = 10.0, 0.35, 0.95
_ROOM_IN, _LEAST_IN = 0.5, 2.5  # for names above and below the points; height of the points themselves
_LARGE: dict[str, Any] = {"fontsize": 15, "color": INK, "weight": "bold"}
_SMALL: dict[str, Any] = {"fontsize": 10, "color": FAINT}
_NAMED = 24  # clusters with a name on the picture: the largest; more names would hide the points
_UPPER = 0.97  # share of a cluster's points below its name
_VECTOR_POINTS = 5000  # more points than that are one embedded bitmap in an SVG: 100,000 circles are 15 MB


def write(drawn: Map, path: Path) -> None:
    """Write the picture, PNG or SVG by its suffix.

    Raises:
        AnalysisError: the file cannot be written.
        MissingExtra: matplotlib is not installed.
    """
    half_in = (_SIZE_IN - 2 * _EDGE_IN) / 2  # of the picture's width: what 1.0 of the map's coordinates is
    low, high = float(drawn.y.min()), float(drawn.y.max())
    tall_in = max((high - low) * half_in, _LEAST_IN) + 2 * _ROOM_IN
    height_in = tall_in + _HEAD_IN + _EDGE_IN
    figure = new_figure("the map", _SIZE_IN, height_in)
    axes = figure.add_axes((0, _EDGE_IN / height_in, 1, tall_in / height_in))
    middle, reach = (low + high) / 2, tall_in / 2 / half_in
    axes.set(xlim=(-_SIZE_IN / 2 / half_in, _SIZE_IN / 2 / half_in), ylim=(middle - reach, middle + reach))
    axes.set_axis_off()
    colours = palette.colours(drawn.clusters)
    shades = {number: colour + ("8c" if number < 0 else "bf") for number, colour in colours.items()}
    order = palette.order(drawn.cluster)
    axes.scatter(
        drawn.x[order],
        drawn.y[order],
        s=palette.dot(len(order), _SIZE_IN * tall_in * 72**2) ** 2,
        c=[shades[number] for number in drawn.cluster[order].tolist()],
        linewidths=0,
        rasterized=len(order) > _VECTOR_POINTS,
    )
    left = _EDGE_IN / _SIZE_IN
    for text, down_in, style in ((title(drawn), 0.4, _LARGE), (subtitle(drawn), 0.7, _SMALL)):
        figure.text(left, 1 - down_in / height_in, text, va="center", parse_math=False, **style)
    _names(axes, figure.canvas, drawn, colours)
    save_figure(figure, path)


def _names(axes: Any, canvas: Any, drawn: Map, colours: dict[int, str]) -> None:
    """Draw each cluster's name at its upper edge, moved up or down until none lies on another."""
    renderer, texts = canvas.get_renderer(), []
    for cluster in sorted(drawn.clusters, key=lambda each: -each.size)[:_NAMED]:
        edge = colours[cluster.number]
        texts.append(
            axes.text(
                *crown(drawn, cluster),
                f"{cluster.name}\n{cluster.size:,} · {cluster.share:.0%}",
                ha="center",
                va="center",
                fontsize=10,
                linespacing=1.25,
                color=INK,
                parse_math=False,
                bbox={"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": edge, "alpha": 0.88},
            )
        )
    extents = [text.get_window_extent(renderer).padded(10) for text in texts]
    boxes = [((box.x0 + box.x1) / 2, box.y1, box.width, box.height) for box in extents]
    frame = axes.get_window_extent(renderer)
    centres = place_labels(boxes, (frame.x0, frame.y0, frame.x1, frame.y1))
    to_data = axes.transData.inverted()
    for text, centre in zip(texts, centres, strict=True):
        text.set_position(to_data.transform(centre))


def crown(drawn: Map, cluster: Cluster) -> tuple[float, float]:
    """Return where a cluster's name hides few of its points: above its heart, at its upper edge."""
    return cluster.x, float(np.quantile(drawn.y[drawn.cluster == cluster.number], _UPPER))


def title(drawn: Map) -> str:
    """Return what the map shows."""
    what = f"{drawn.by}s"
    return f"{len(drawn.ids):,} {what} in {len(drawn.clusters)} clusters"


def subtitle(drawn: Map) -> str:
    """Return name, date and filter of the map."""
    none = int((drawn.cluster < 0).sum())
    parts = [f"map “{drawn.name}”", f"made {drawn.created_at:%Y-%m-%d %H:%M} UTC"]
    parts += [f"where {drawn.where}"] if drawn.where else []
    parts += [f"{none:,} in no cluster (grey)"] if none else []
    return " · ".join(parts)
