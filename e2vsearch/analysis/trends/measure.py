"""Measures shares of emotions, labels or clusters by period and group, with an interval for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from difflib import get_close_matches
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.maps.types import NONE, Cluster
from e2vsearch.analysis.trends.interval import interval
from e2vsearch.analysis.trends.types import By, TrendRow, Trends
from e2vsearch.catalog import filter_text, maps, tallies
from e2vsearch.catalog.tallies import Of, Part, Tally
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import NotStored, QueryError

MAX_ROWS = 50_000
"""More shares than anybody looks at; a year of days of nine emotions in ten groups is 33,000."""

_Cell = tuple[date | None, Any]  # the first day of the period, and the group


@dataclass(frozen=True, slots=True)
class _Counts:
    """Segments of each recording in each cell, ``(n,)`` each, in order of cells and recordings."""

    cell: NDArray[np.int64]
    recording: NDArray[np.int64]
    segments: NDArray[np.float64]


def trends(
    catalog: Catalog,
    actor: str = "python",
    *,
    by: By | None = "week",
    of: Of = "emotion",
    group: str | None = None,
    where: str | None = None,
    map: str | None = None,
) -> Trends:
    """Return the share of each emotion, label or cluster among the segments of each period and group.

    A label is a person's or, where a segment has none, every classifier's, as filters see them; segments without one
    count among all. Clusters are shares of the map's points, of which some are in no cluster.

    Args:
        catalog: of the collection.
        actor: who asks, for the audit log.
        by: ``day``, ``week`` or ``month`` of when recordings were made; None for all times at once.
        of: ``emotion``, ``label`` or ``cluster``.
        group: a key of the metadata, ``role`` or ``channel``, whose values are counted apart.
        where: a filter; only segments that meet it are counted.
        map: the name of the stored map whose clusters are meant, ``map`` by default.

    Raises:
        QueryError: no such period, group or filter, or more shares than `MAX_ROWS`; NotStored for a map.
        UnlawfulUse: emotion by employee, see `e2vsearch.policy`.
    """
    if by is not None and by not in get_args(By):
        raise QueryError(f"periods are a day, week or month, not {by!r}")
    if of not in get_args(Of):
        raise QueryError(f"there are trends of emotion, label and cluster, not of {of!r}")
    if map is not None and of != "cluster":
        raise QueryError(f"a map has clusters, and these are trends of {of}: ask for those of cluster, or name no map")
    part, groups = _groups(catalog, group)
    names = _cluster_names(catalog, map or "map") if of == "cluster" else {}
    map = (map or "map") if of == "cluster" else None
    values, everything = tallies.count(catalog, of, where, part, map)
    times = {} if by is None else tallies.recorded_at(catalog)
    starts = {} if by is None else {number: _start(at.date(), by) for number, at in times.items()}

    def cell(tally: Tally) -> _Cell:
        return starts.get(tally.recording), groups.get(tally.recording) if part is None else tally.part

    known = [each for each in everything if by is None or each.recording in starts]  # others came since
    cells = sorted({cell(each) for each in known}, key=lambda each: (each[0] or date.min, each[1] is None, each[1]))
    at = {each: number for number, each in enumerate(cells)}
    total = _counts(known, [at[cell(each)] for each in known])
    found: dict[Any, list[Tally]] = {}
    for each in values:
        if of != "cluster" or each.value in names:
            found.setdefault(each.value, []).append(each)
    common = {value: sum(each.segments for each in given) for value, given in found.items()}
    order = sorted(found, key=lambda value: (-common[value], str(value)))
    if len(order) * len(cells) > MAX_ROWS:
        raise QueryError(
            f"{len(order) * len(cells):,} shares are more than {MAX_ROWS:,}: take longer periods, another group, "
            "or a filter"
        )
    columns = []
    for value in order:
        given = [each for each in found[value] if cell(each) in at]
        columns.append(_shares(total, _counts(given, [at[cell(each)] for each in given]), len(cells)))
    rows = []
    for number, (start, own) in enumerate(cells):
        for value, shares in zip(order, columns, strict=True):
            share, low, high, segments, of_segments, recordings, of_recordings = shares[number]
            rows.append(
                TrendRow(
                    period=None if start is None or by is None else _name(start, by),
                    start=None if start is None else start.isoformat(),
                    group=None if own is None else str(own),
                    value=names.get(value, str(value)),
                    share=round(share, 6),
                    low=round(min(low, share), 6),
                    high=round(max(high, share), 6),
                    segments=int(segments),
                    of_segments=int(of_segments),
                    recordings=int(recordings),
                    of_recordings=int(of_recordings),
                    where=_filter(where, by, start, group, own, f"cluster.{map}" if map else of, value),
                )
            )
    if catalog.policy.audit:
        asked = {"by": by, "of": of, "group": group, "where": where, "map": map}
        catalog.audit(actor, "trends", {name: value for name, value in asked.items() if value is not None})
    return Trends(by, of, group, where, map, tuple(rows))


def _groups(catalog: Catalog, group: str | None) -> tuple[Part | None, Mapping[int, str]]:
    """Return what splits recordings, or the group of each."""
    if group is None:
        return None, {}
    keys = catalog.metadata_keys()
    name = group.removeprefix("meta.")
    if group in ("role", "channel"):
        return ("role" if group == "role" else "channel"), {}
    if name not in keys:
        known = sorted({"role", "channel", *keys} - set(catalog.policy.refused(keys)))
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise QueryError(f"no recording has {name!r} in its metadata - {hint}")
    catalog.policy.check_employees([name])
    return None, tallies.metadata_of(catalog, name)


def _cluster_names(catalog: Catalog, name: str) -> dict[int, str]:
    """Return the name of each cluster of a map, without what names employees."""
    for each in maps.listing(catalog):
        if each.map.name == name:
            refused = catalog.policy.refused(catalog.metadata_keys())
            clusters = (Cluster.from_json(cluster).without(refused) for cluster in each.map.clusters)
            return {cluster.number: cluster.name for cluster in clusters if cluster.number != NONE}
    known = ", ".join(each.map.name for each in maps.listing(catalog))
    raise NotStored(f"there is no map {name!r}{f' (known: {known})' if known else ''} - make it with: e2vsearch map")


def _counts(given: Sequence[Tally], cells: Sequence[int]) -> _Counts:
    cell = np.array(cells, np.int64)
    recording = np.array([each.recording for each in given], np.int64)
    segments = np.array([each.segments for each in given], np.float64)
    order = np.lexsort((recording, cell))
    return _Counts(cell[order], recording[order], segments[order])


def _shares(total: _Counts, value: _Counts, cells: int) -> list[tuple[float, ...]]:
    """Return share, low, high, and counts of segments and recordings with the value and of all, a cell each."""
    # a recording is in a cell once, so that cell and recording together are a key
    width = int(total.recording.max(initial=0)) + 1
    rows = np.searchsorted(total.cell * width + total.recording, value.cell * width + value.recording)
    y = np.zeros(len(total.cell))
    np.add.at(y, rows, value.segments)

    def sums(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(total.cell, weights, cells).astype(np.float64)

    segments, of_segments = sums(y), sums(total.segments)
    share = segments / of_segments
    recordings = sums(np.ones(len(y)))
    rest = 1 - total.segments / of_segments[total.cell]  # of the segments without this recording's
    apart = np.divide(y - share[total.cell] * total.segments, rest, out=np.zeros_like(y), where=rest > 0)
    low, high = interval(segments, of_segments, sums(apart**2), recordings)
    table = np.stack([share, low, high, segments, of_segments, sums((y > 0).astype(np.float64)), recordings], axis=1)
    return [tuple(row) for row in table.tolist()]


def _start(day: date, by: By) -> date:
    if by == "day":
        return day
    return day.replace(day=1) if by == "month" else day - timedelta(days=day.weekday())


def _name(start: date, by: By) -> str:
    if by == "day":
        return start.isoformat()
    if by == "month":
        return f"{start:%Y-%m}"
    year, week, _ = start.isocalendar()
    return f"{year:04}-W{week:02}"


def _filter(
    where: str | None, by: By | None, start: date | None, group: str | None, own: Any, name: str, value: Any
) -> str:
    """Return the filter of one share's recordings."""
    conditions = [] if where is None else [f"({where})"]
    if by is not None and start is not None:
        if start.year < date.max.year:
            after = (start + timedelta(days=31)).replace(day=1) if by == "month" else start + _LENGTHS[by]
            conditions += [f"date >= {start.isoformat()}", f"date < {after.isoformat()}"]
        else:  # no day follows its last
            conditions.append(f"date >= {start.isoformat()}T00:00Z")
    if group is not None:
        key = group if group in ("role", "channel") else filter_text.key(group.removeprefix("meta."))
        conditions.append(filter_text.equal(key, own))
    return " and ".join([*conditions, filter_text.equal(name, value)])


_LENGTHS = {"day": timedelta(days=1), "week": timedelta(days=7)}
