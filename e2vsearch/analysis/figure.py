"""Pictures by matplotlib, of which the extra ``map`` has one: an empty figure, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2vsearch.errors import AnalysisError, missing_extra
from e2vsearch.files import private_file, unwritable

INK, FAINT = "#22262B", "#6B7280"
"""Colours of text."""

_DPI = 160


def new_figure(of: str, width_in: float, height_in: float, **options: Any) -> Any:
    """Return an empty matplotlib figure that needs no screen.

    Args:
        of: what it is a picture of, for the error.
        width_in: in inches, as `height_in`.
        height_in: of the figure.
        options: more of `matplotlib.figure.Figure`.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise missing_extra(f"a picture of {of}", "map") from error
    figure = Figure(figsize=(width_in, height_in), facecolor="white", **options)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure, PNG or SVG by the file's suffix; the same figure makes the same file.

    Raises:
        AnalysisError: the file cannot be written.
    """
    import matplotlib as mpl

    metadata: dict[str, Any] = {"Date": None} if path.suffix.lower() == ".svg" else {}
    try:
        # text stays text in an SVG, so that it can be searched
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "e2vsearch"}):
            figure.savefig(private_file(path), dpi=_DPI, metadata=metadata)
    except OSError as error:
        raise AnalysisError(unwritable(path, error)) from error
