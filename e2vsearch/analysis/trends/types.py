"""Result types of `Collection.trends`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from e2vsearch.catalog.tallies import Of
from e2vsearch.listing import Listing

By = Literal["day", "week", "month"]
"""Length of a period, by when recordings were made, UTC; weeks as in ISO 8601."""


@dataclass(frozen=True, slots=True)
class TrendRow:
    """The share of one value among the segments of one period and group."""

    period: str | None  # "2026-11-16", "2026-W47" or "2026-11"; None: recordings of all times
    start: str | None  # its first day, ISO 8601
    group: str | None  # the value of the key; None: of recordings without it, or without groups
    value: str  # an emotion, "unsure" or "too short" among them; a label; or a cluster's name
    share: float  # of the segments, 0 to 1
    low: float  # the interval that has the share in 95 of 100 such samples of recordings, see `interval`
    high: float
    segments: int  # with the value
    of_segments: int  # of the period and group
    recordings: int  # with such a segment
    of_recordings: int  # of the period and group
    where: str  # the filter that those `recordings` meet, and no others


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Trends(Listing[TrendRow]):
    """Shares, in order of periods, groups and how common a value is.

    A period or group without recordings has no row; a value that is nowhere in a period has one, of share 0.

    Attributes:
        by: what a period is; None: all recordings are one.
        of: whose shares these are.
        group: key of the metadata, ``role`` or ``channel``; None: recordings are not grouped.
        where: the filter in force.
        map: whose clusters these are.
        rows: a share each.
    """

    by: By | None
    of: Of
    group: str | None
    where: str | None
    map: str | None
    rows: tuple[TrendRow, ...]

    @property
    def row_type(self) -> type[TrendRow]:
        """The dataclass of the rows."""
        return TrendRow

    @property
    def periods(self) -> tuple[str, ...]:
        """The names of the periods that have recordings, in order; none without periods."""
        return tuple(dict.fromkeys(row.period for row in self.rows if row.period is not None))

    @property
    def groups(self) -> tuple[str | None, ...]:
        """The groups, in order; those that have recordings in a later period alone come last."""
        return tuple(dict.fromkeys(row.group for row in self.rows))

    @property
    def values(self) -> tuple[str, ...]:
        """The emotions, labels or clusters, the most common first."""
        return tuple(dict.fromkeys(row.value for row in self.rows))

    def __repr__(self) -> str:
        grouped = f" and {self.group}" if self.group else ""
        return f"Trends({self.of} by {self.by or 'no period'}{grouped}, {len(self.rows):,} shares)"
