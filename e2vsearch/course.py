"""The course of a call: where the valence of a voice changes for a while, and whether for the worse.

Valence is that of each segment's class probabilities (`emotions.affect`), so a segment that is "unsure" counts for what
it is, somewhere between its classes. Segments that are too short or too quiet to tell are left out (`is_told`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from e2vsearch.emotions import is_too_quiet, is_too_short
from e2vsearch.policy import Role

Direction = Literal["worsening", "improving"]
"""Towards unpleasant, and towards pleasant."""

Course = Literal["worsening", "improving", "steady", "mixed"]
"""Of a recording: all changes for the worse, all for the better, none, or some of either."""

LEAST_SEGMENTS = 4
"""In a row, that a voice must stay changed for; a voice with fewer than twice as many has no course."""

LEAST_CHANGE = 0.1
"""In valence, 0 to 1: two fifths of the way from neutral to angry. A smaller change is real, maybe, and no news."""

_PENALTY = 4.0
"""Times the variance and log n: of 400 made series each of 8 to 80 values around one mean, of four distributions
(normal, two-valued, rarely and evenly, and U-shaped), at most 5 % have a change then."""


@dataclass(frozen=True, slots=True)
class Change:
    """A place where the mean of a series changes."""

    at: int  # the first value after it
    end: int  # the value after the last one before the next change
    before: float  # mean since the change before
    after: float  # mean until the next one

    @property
    def direction(self) -> Direction:
        """For worse or better, of valence."""
        return "worsening" if self.after < self.before else "improving"


def is_told(duration_s: float, level_db: float | None) -> bool:
    """Whether a segment is long and loud enough for its valence to mean anything."""
    return not is_too_short(duration_s) and not is_too_quiet(level_db)


def judged(roles: Sequence[Role | None]) -> list[int]:
    """Return the channels whose course is the recording's: the customers', and where none is known all but agents'."""
    customers = [channel for channel, role in enumerate(roles) if role == "customer"]
    return customers or [channel for channel, role in enumerate(roles) if role != "agent"]


def changes(values: Sequence[float]) -> list[Change]:
    """Return where the mean of a series changes, in order.

    The series is cut so that the squared distances from each piece's mean, and a penalty for each cut, are least: the
    optimal partition (Jackson et al. 2005, "An algorithm for optimal partitioning of data on an interval", IEEE Signal
    Processing Letters 12, 105-108). The penalty is `_PENALTY` · variance · log n, twice Schwarz' criterion (Yao 1988,
    "Estimating the number of change-points via Schwarz' criterion", Statistics & Probability Letters 6, 181-189), and
    the variance that of successive differences, which few changes raise little, on the careful side (von Neumann et al.
    1941, "The mean square successive difference", Annals of Mathematical Statistics 12, 153-162). Pieces have
    `LEAST_SEGMENTS` values; those whose means differ by less than `LEAST_CHANGE` are joined again.

    >>> changes([0.5, 0.5, 0.4, 0.5, 0.5, 0.2, 0.2, 0.3, 0.2])
    [Change(at=5, end=9, before=0.48, after=0.225)]
    >>> changes([0.5, 0.2, 0.5, 0.2, 0.5, 0.2, 0.5, 0.2, 0.5])
    []
    """
    series = np.asarray(values, np.float64)
    if series.size < 2 * LEAST_SEGMENTS:
        return []
    borders = _partition(series)
    while len(borders) > 2:
        means = [float(series[start:end].mean()) for start, end in itertools.pairwise(borders)]
        steps = np.abs(np.diff(means))
        at = int(steps.argmin())
        if steps[at] >= LEAST_CHANGE - 1e-9:  # 0.5 - 0.4 is a little less than 0.1
            rounded = [round(mean, 6) for mean in means]
            pairs = zip(borders[1:], borders[2:], rounded, rounded[1:], strict=False)
            return [Change(*each) for each in pairs]
        del borders[at + 1]
    return []


def course_of(lines: Iterable[Sequence[float]]) -> Course | None:
    """Return the course of a recording by the valence of each of its channels' told segments, in order of time.

    None where no channel has `LEAST_SEGMENTS` twice.
    """
    long_enough = [line for line in lines if len(line) >= 2 * LEAST_SEGMENTS]
    if not long_enough:
        return None
    directions = {change.direction for line in long_enough for change in changes(line)}
    if len(directions) == 1:
        return directions.pop()
    return "mixed" if directions else "steady"


def _partition(series: NDArray[np.float64]) -> list[int]:
    """Return the borders of the optimal partition: 0, the first value of each later piece, and n."""
    n = series.size
    penalty = _PENALTY * float(np.sum(np.diff(series) ** 2)) / (2 * (n - 1)) * np.log(n)
    sums = np.concatenate([[0.0], np.cumsum(series)])
    squares = np.concatenate([[0.0], np.cumsum(series**2)])
    least = np.full(n + 1, np.inf)
    least[0] = -penalty
    starts = np.zeros(n + 1, np.int64)
    places = np.arange(n + 1)
    for end in range(LEAST_SEGMENTS, n + 1):
        stop = end - LEAST_SEGMENTS + 1
        spread = squares[end] - squares[:stop] - (sums[end] - sums[:stop]) ** 2 / (end - places[:stop])
        cost = least[:stop] + spread
        starts[end] = cost.argmin()
        least[end] = cost[starts[end]] + penalty
    borders = [n]
    while borders[0]:
        borders.insert(0, int(starts[borders[0]]))
    return borders
