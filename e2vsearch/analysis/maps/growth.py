"""Which clusters grew: the latest calls of a map against those before. Knows a map and its dates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from e2vsearch.analysis.maps import statistics
from e2vsearch.analysis.maps.types import Anomaly, Map, Periods
from e2vsearch.errors import AnalysisError

FEWEST_CALLS = 5
"""In each period. With fewer, hardly any growth could be told from chance."""


def periods(drawn: Map, recent_days: float = 7, baseline_days: float = 28, until: datetime | None = None) -> Periods:
    """The two stretches of time that are compared, and how many calls each has.

    Args:
        drawn: the map.
        recent_days: length of the recent period.
        baseline_days: length of the one before it.
        until: the end of the recent period; by default the end of the day of the latest call.

    Raises:
        AnalysisError: no time, or too few calls in one of them.
    """
    if recent_days <= 0 or baseline_days <= 0:
        raise AnalysisError("--recent and --baseline are lengths of time such as 7d or 24h, longer than nothing")
    if until is None:
        latest = drawn.recorded_at.max() if drawn.recorded_at.size else np.datetime64("now")
        until = datetime.combine(latest.astype("datetime64[D]").item(), datetime.min.time(), UTC) + timedelta(days=1)
    recent_from = until - timedelta(days=recent_days)
    baseline_from = recent_from - timedelta(days=baseline_days)
    found = Periods(
        baseline_from,
        recent_from,
        until,
        np.unique(drawn.recordings[_between(drawn, baseline_from, recent_from)]).size,
        np.unique(drawn.recordings[_between(drawn, recent_from, until)]).size,
    )
    if min(found.baseline_calls, found.recent_calls) < FEWEST_CALLS:
        raise AnalysisError(
            f"too few calls to compare: {found.recent_calls} from {_day(recent_from)} on and {found.baseline_calls} in "
            f"the {baseline_days:g} days before, of {FEWEST_CALLS} needed in each - choose a longer --recent or "
            "--baseline, or give calls their dates with ingest --meta"
        )
    return found


def anomalies(
    drawn: Map, recent_days: float = 7, baseline_days: float = 28, until: datetime | None = None
) -> tuple[Anomaly, ...]:
    """Every cluster's growth from the baseline to the recent period, the least likely chance first.

    Counted are calls with a point in the cluster, per call with a point on the map; points placed later count as well.

    Args:
        drawn: the map.
        recent_days: length of the recent period.
        baseline_days: length of the one before it.
        until: the end of the recent period; by default the end of the day of the latest call.

    Raises:
        AnalysisError: too few calls in one of the periods.
        MissingExtra: scipy is not installed.
    """
    spans = periods(drawn, recent_days, baseline_days, until)
    recent, baseline = (
        _between(drawn, spans.recent_from, spans.until),
        _between(drawn, spans.baseline_from, spans.recent_from),
    )
    counts = []
    for cluster in drawn.clusters:
        inside = drawn.cluster == cluster.number
        counts.append([np.unique(drawn.recordings[inside & period]).size for period in (recent, baseline)])
    exposure = spans.recent_calls, spans.baseline_calls
    p = statistics.corrected([statistics.grew(now, before, *exposure) for now, before in counts])
    found = []
    for cluster, (now, before), chances in zip(drawn.clusters, counts, p.tolist(), strict=True):
        expected = before * exposure[0] / exposure[1]
        low, high = statistics.ratio_interval(now, before, *exposure)
        ratio = now / expected if before else None
        found.append(
            Anomaly(
                cluster.number,
                cluster.name,
                now,
                before,
                expected,
                ratio,
                low,
                high,
                chances,
                chances < statistics.UNUSUAL,
            )
        )
    return tuple(sorted(found, key=lambda each: (each.p, -each.low)))


def _between(drawn: Map, start: datetime, end: datetime) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    first, last = (np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "s") for moment in (start, end))
    inside: np.ndarray[tuple[int], np.dtype[np.bool_]] = (drawn.recorded_at >= first) & (drawn.recorded_at < last)
    return inside


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")
