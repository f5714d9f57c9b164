"""Files of a map: Parquet, PNG, SVG or HTML, by the suffix."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.maps import clips, dataset, html, image, parquet
from e2vsearch.analysis.maps.types import ARRAYS, Map, Progress
from e2vsearch.errors import AnalysisError

SUFFIXES = (".parquet", ".png", ".svg", ".html")
"""Points, picture, picture, page."""


def write(
    context: AnalysisContext,
    drawn: Map,
    path: str | os.PathLike[str],
    audio_url: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a map's points as Parquet, its picture as PNG or SVG, or a page that plays segments as HTML.

    Args:
        context: the collection's.
        drawn: the map.
        path: the file; its suffix is one of `SUFFIXES`.
        audio_url: where ``e2vsearch serve`` answers, such as ``http://127.0.0.1:8080``: the page plays from there what
            it does not hold itself, and points have the addresses of their sounds.
        progress: see `Progress`.

    Raises:
        AnalysisError: another suffix, or the file cannot be written.
        MissingExtra: the packages of the extra `map` are not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise AnalysisError(f"{path}: a map is written as {', '.join(SUFFIXES)}, and the suffix says which")
    if progress is not None:
        progress(f"writing {path.name}", 0, 1)
    if suffix in (".png", ".svg"):
        image.write(drawn, path)
        return
    data = dataset.load_points(context, drawn.by, drawn.ids, drawn.where)
    drawn = _only(drawn, np.isin(drawn.ids, data.ids))
    if suffix == ".parquet":
        parquet.write(drawn, data, path, audio_url)
    else:
        html.write(drawn, data, path, clips.clips(context, drawn.clusters, progress=progress), audio_url)


def _only(drawn: Map, keep: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Map:
    """Return the map without points that another process removed since it was loaded."""
    clusters = tuple(each for each in drawn.clusters if (drawn.cluster[keep] == each.number).any())
    return replace(drawn, clusters=clusters, **{name: getattr(drawn, name)[keep] for name in ARRAYS})
