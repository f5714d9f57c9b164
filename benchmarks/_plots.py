"""The plots of docs/benchmarks.md as SVG: one function a plot, the same bytes for the same rows and Matplotlib.

Ink and paper are named colours of a style sheet in the file, which follows the reader's light or dark scheme. Each file
holds a hash of the rows it shows, by which a test sees that it is current without drawing it.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Mapping
from typing import Any

from _results import Result
from _table import Row

_COLOURS = {
    "#010101": ("ink", "#1f2328", "#e6edf3"),
    "#020202": ("faint", "#8c959f", "#6e7681"),
    "#030303": ("paper", "#ffffff", "#0d1117"),
    "#040404": ("first", "#2f6fb3", "#79b8ff"),
    "#050505": ("second", "#c4432b", "#ff8a70"),
}
"""Colours of the plots by role, for light and for dark pages."""

INK, FAINT, PAPER, FIRST, SECOND = _COLOURS

_RIVALS = ("e2vsearch ivf-rabitq", "hnswlib", "FAISS HNSW", "zvec", "qdrant-edge", "pgvector")
_RECALLS = (
    ("index-50k", "50,000", "of 1200 fresh queries"),
    ("index-200k", "200,000", "of fresh queries"),
    ("index-1m-recall", "1,000,000", "of fresh queries"),
)
_TARGETS = ("0.90", "0.95", "0.99")


def shown(plot: str, results: Mapping[str, Result]) -> list[Row]:
    """Return the rows that a plot shows."""
    if plot == "retrieval":
        return [row for row in results["retrieval"].rows if not row.name.startswith("mean")]
    if plot == "recall":
        return [
            results[result].row(f"ivf-rabitq: recall {fresh} for {target}")
            for result, _, fresh in _RECALLS
            for target in _TARGETS
        ]
    found = results["index-1m"]
    return [
        found.row(f"{name}: {what}") for name in _RIVALS for what in ("p50, one query", "memory of its own", "recall")
    ]


def fingerprint(plot: str, results: Mapping[str, Result]) -> str:
    """Return a hash of what a plot shows."""
    rows = repr([(row.name, row.value, row.unit, row.ratio) for row in shown(plot, results)])
    return hashlib.sha256(rows.encode()).hexdigest()


def draw(plot: str, results: Mapping[str, Result]) -> str:
    """Return a plot as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    settings = {
        "svg.hashsalt": plot, "svg.fonttype": "none", "font.size": 9.0, "font.family": "sans-serif",
        "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT, "xtick.color": INK, "ytick.color": INK,
        "figure.facecolor": PAPER, "savefig.facecolor": PAPER, "axes.facecolor": PAPER, "legend.frameon": False,
        "axes.spines.top": False, "axes.spines.right": False,
    }  # fmt: skip
    with mpl.rc_context(settings):
        figure = _DRAWN[plot](pyplot, results)
        file = io.StringIO()
        metadata = {"Date": None, "Creator": None, "Description": fingerprint(plot, results)}
        figure.savefig(file, format="svg", metadata=metadata, bbox_inches="tight")
        pyplot.close(figure)
    return _themed(file.getvalue())


def _retrieval(pyplot: Any, results: Mapping[str, Result]) -> Any:
    rows = {row.name: row for row in shown("retrieval", results)}
    names = [name for name in rows if not name.endswith(": raw")]
    figure, axes = pyplot.subplots(figsize=(6.4, 4.2))
    for at, name in enumerate(reversed(names)):
        low, high = (float(each) for each in re.findall(r"\d\.\d+", rows[name].unit))
        axes.plot([low, high], [at, at], color=FIRST, linewidth=1.5)
        axes.plot(rows[name].value, at, "o", color=FIRST, markersize=5, label="default" if at == 0 else None)
        raw = rows[f"{name}: raw"].value
        axes.plot(
            raw, at, "o", markerfacecolor=PAPER, markeredgecolor=SECOND, markersize=5, label="raw" if at == 0 else None
        )
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.set_xlim(0, 0.8)
    axes.set_xlabel("mean average precision, the query's own speaker left out")
    axes.legend(loc="lower right")
    return figure


def _recall(pyplot: Any, results: Mapping[str, Result]) -> Any:
    figure, axes = pyplot.subplots(figsize=(6.4, 2.4))
    width = 0.22
    for group, (result, size, fresh) in enumerate(_RECALLS):
        above = [
            results[result].row(f"ivf-rabitq: recall {fresh} for {target}").value - float(target) for target in _TARGETS
        ]
        places = [at + (group - 1) * width for at in range(len(_TARGETS))]
        axes.bar(places, above, width * 0.9, color=(FAINT, FIRST, SECOND)[group], label=f"{size} vectors")
    axes.axhline(0, color=INK, linewidth=1)
    axes.set_xticks(range(len(_TARGETS)), [f"built for {target}" for target in _TARGETS])
    axes.set_ylabel("found − target")  # noqa: RUF001 - a minus
    axes.set_ylim(-0.02, 0.04)
    axes.legend(loc="lower right", ncols=3)
    return figure


def _rivals(pyplot: Any, results: Mapping[str, Result]) -> Any:
    found = results["index-1m"]
    own = {what: found.row(f"{_RIVALS[0]}: {what}").value for what in ("p50, one query", "memory of its own")}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(6.4, 2.2), sharey=True)
    names = list(reversed(_RIVALS))
    times = [1.0 if name == _RIVALS[0] else found.row(f"{name}: p50, one query").value for name in names]
    memory = [found.row(f"{name}: memory of its own").value / own["memory of its own"] for name in names]
    for axes, values, title in ((left, times, "time of one query, ratio"), (right, memory, "memory of its own, ratio")):
        axes.barh(range(len(names)), values, color=[FIRST if name == _RIVALS[0] else FAINT for name in names])
        for at, value in enumerate(values):
            axes.text(value, at, f" {value:.1f}", va="center")
        axes.set_xlabel(title)
        axes.margins(x=0.15)
    right.set_xscale("log")
    right.set_xlim(0.8, 300)
    left.set_yticks(range(len(names)), [f"{name} ({found.row(f'{name}: recall').value:.3f})" for name in names])
    return figure


_DRAWN: dict[str, Callable[[Any, Mapping[str, Result]], Any]] = {
    "retrieval": _retrieval,
    "recall": _recall,
    "rivals": _rivals,
}
PLOTS = tuple(_DRAWN)


def _themed(svg: str) -> str:
    """Put the named colours in place of those that were drawn with, and a style sheet that follows the scheme."""
    light = "".join(f"--{name}: {colour}; " for name, colour, _ in _COLOURS.values())
    dark = "".join(f"--{name}: {colour}; " for name, _, colour in _COLOURS.values())
    for drawn, (name, colour, _) in _COLOURS.items():
        svg = svg.replace(drawn, f"var(--{name}, {colour})")
    svg = re.sub(r"font: (\S+) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
    style = f"<style>:root {{ {light}}} @media (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}</style>"
    svg = re.sub(r"(<svg\b[^>]*>)", rf"\1\n{style}", svg, count=1)
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)
