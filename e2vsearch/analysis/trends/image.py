"""Trends as a picture, PNG or SVG: small multiples with intervals, drawn by matplotlib off screen.

Over time, a panel is a group with a line for each value, or a value where there are no groups. Without periods, a panel
is a group with a bar for each value. Every panel has the same scale, and below each period stands how many calls it is
of.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

from e2vsearch.analysis.figure import FAINT, INK, new_figure, save_figure
from e2vsearch.analysis.trends.types import TrendRow, Trends
from e2vsearch.emotions import NAMELESS
from e2vsearch.errors import AnalysisError
from e2vsearch.palette import CATEGORIES, GREY, colour_of

SUFFIXES = (".png", ".svg")
PANELS = 12
"""At most; the groups with most calls, or the values that are most common."""

LINES = 4
"""Of a panel at most: the most common values, but for those that name no emotion."""

_PANEL_IN = (3.4, 2.3)
_TICKS = 4  # periods that are named below a panel
_APART = 0.07  # of a panel's height, between the names of lines
_NONE = "(none)"


def write(trends: Trends, path: Path) -> None:
    """Write the picture, PNG or SVG by its suffix.

    Raises:
        AnalysisError: there is nothing to draw, or the file cannot be written.
        MissingExtra: matplotlib is not installed.
    """
    if not trends.rows:
        raise AnalysisError(f"{path}: no segment meets the filter, so that there is nothing to draw - ask for others")
    panels = _panels(trends)
    across = min(3, len(panels))
    down = ceil(len(panels) / across)
    width, height = _PANEL_IN[0] * across + 0.3, _PANEL_IN[1] * down + 0.9
    figure = new_figure("trends", width, height, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharey=trends.by is not None)
    colours = _colours(trends)
    top = max(row.high for _, rows in panels for row in rows)
    for at, axes in enumerate(grid.flat):
        if at >= len(panels):
            axes.set_visible(False)
            continue
        title, rows = panels[at]
        if trends.by is None:
            _bars(axes, rows, colours, top)
        else:
            _lines(axes, trends, rows, colours, top)
        axes.set_title(title, loc="left", fontsize=9, color=INK, parse_math=False)
    figure.suptitle(_title(trends), x=0.02, ha="left", fontsize=11, color=INK, weight="bold", parse_math=False)
    save_figure(figure, path)


def _panels(trends: Trends) -> list[tuple[str, list[TrendRow]]]:
    """Return the title and the rows of each panel."""
    if trends.by is not None and trends.group is None:
        of_values = [(name, _of(trends, value=name)) for name in trends.values[:PANELS]]
        return [(f"{name} · {sum(row.segments for row in rows):,} segments", rows) for name, rows in of_values]
    drawn = trends.values[:PANELS]
    if trends.by is not None:
        drawn = tuple(value for value in trends.values if value not in NAMELESS)[:LINES] or trends.values[:LINES]
    calls = {group: sum(row.of_recordings for row in _of(trends, group=group)) for group in trends.groups}
    groups = sorted(calls, key=lambda group: -calls[group])[:PANELS]
    panels = []
    for group in sorted(groups, key=trends.groups.index):
        rows = [row for row in _of(trends, group=group) if row.value in drawn]
        name = "all recordings" if trends.group is None else group if group is not None else _NONE
        panels.append((_counted(name, rows), rows))
    return panels


def _of(trends: Trends, **wanted: str | None) -> list[TrendRow]:
    return [row for row in trends.rows if all(getattr(row, name) == each for name, each in wanted.items())]


def _counted(name: str, rows: Sequence[TrendRow]) -> str:
    cells = {(row.period, row.group): (row.of_recordings, row.of_segments) for row in rows}
    calls, segments = (sum(each[at] for each in cells.values()) for at in (0, 1))
    return f"{name} · {calls:,} calls, {segments:,} segments"


def _colours(trends: Trends) -> dict[str, str]:
    if trends.of == "emotion":
        return {value: colour_of(value).light for value in trends.values}
    light = [each.light for each in CATEGORIES]
    return {value: light[at] if at < len(light) else GREY.light for at, value in enumerate(trends.values)}


def _lines(axes: Any, trends: Trends, rows: Sequence[TrendRow], colours: dict[str, str], top: float) -> None:
    periods = trends.periods
    at: dict[str | None, int] = {period: number for number, period in enumerate(periods)}
    values = [value for value in trends.values if any(row.value == value for row in rows)]
    ends = {}
    for value in values:
        line = [row for row in rows if row.value == value]
        x = [at[row.period] for row in line]
        shares = [100 * row.share for row in line]
        axes.fill_between(
            x, [100 * row.low for row in line], [100 * row.high for row in line], color=colours[value], alpha=0.18, lw=0
        )
        axes.plot(x, shares, color=colours[value], marker="o", markersize=3, linewidth=1.5)
        ends[value] = shares[-1]
    if len(values) > 1:  # the word beside the colour
        for value, height in _spread(ends, 100 * top * _APART).items():
            axes.text(
                len(periods) - 0.5, height, value, fontsize=7, va="center", color=INK, parse_math=False, clip_on=False
            )
    shown = range(0, len(periods), ceil(len(periods) / _TICKS))
    calls = {row.period: row.of_recordings for row in rows}
    axes.set_xticks(list(shown), [f"{periods[each]}\n{calls.get(periods[each], 0):,}" for each in shown], fontsize=7)
    axes.set(xlim=(-0.4, len(periods) - 0.6), ylim=(0, 100 * top * 1.05))
    _plain(axes, axes.yaxis)


def _spread(ends: dict[str, float], apart: float) -> dict[str, float]:
    """Return heights for names at the ends of lines, none of which lies on another."""
    found: dict[str, float] = {}
    least = 0.0
    for value, height in sorted(ends.items(), key=lambda each: each[1]):
        found[value] = max(height, least)
        least = found[value] + apart
    return found


def _bars(axes: Any, rows: Sequence[TrendRow], colours: dict[str, str], top: float) -> None:
    y = list(range(len(rows)))
    shares = [100 * row.share for row in rows]
    apart = [[100 * (row.share - row.low) for row in rows], [100 * (row.high - row.share) for row in rows]]
    axes.barh(y, shares, color=[colours[row.value] for row in rows], height=0.6)
    axes.errorbar(shares, y, xerr=apart, fmt="none", ecolor=INK, elinewidth=0.8, capsize=2)
    axes.set_yticks(y, [f"{row.value}  {row.segments:,}" for row in rows], fontsize=7)
    axes.set(xlim=(0, 100 * top * 1.05), ylim=(len(rows) - 0.5, -0.5))
    _plain(axes, axes.xaxis)


def _plain(axes: Any, shares: Any) -> None:
    shares.get_major_locator().set_params(nbins=5, steps=[1, 2, 5, 10])
    shares.set_major_formatter("{x:g} %")
    axes.tick_params(labelsize=7, colors=FAINT, length=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def _title(trends: Trends) -> str:
    by = f" by {trends.by}" if trends.by else ""
    grouped = f" and {trends.group}" if trends.group and by else f" by {trends.group}" if trends.group else ""
    where = f", where {trends.where}" if trends.where else ""
    of = f"clusters of map {trends.map}" if trends.map else f"{trends.of}s"
    below = "; below each period its calls" if trends.by else ""
    return f"Shares of {of}{by}{grouped}{where}, with 95 % intervals{below}"
