"""How times and percentiles are written for people, and which matches of many are shown."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2vsearch.types import Match


def clock(seconds: float) -> str:
    """Return a time in a recording as people read it: ``761.2`` → ``12:41.2``; from an hour on ``1:02:03.4``."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours}:' if hours else ''}{minutes:02d}:{tenths / 10:04.1f}"


def percent(percentile: float) -> str:
    """Return a percentile to a tenth, rounded down: it is 100.0 only where no pair that was drawn is as near."""
    return f"{floor(percentile * 10) / 10:.1f}"


def evenly(matches: Sequence[Match], most: int) -> Sequence[Match]:
    """Return `most` matches of an alignment at most, evenly spaced, the first and the last among them."""
    if len(matches) <= most:
        return matches
    return [matches[round(at * (len(matches) - 1) / (most - 1))] for at in range(most)]


def nearest(matches: Sequence[Match], most: int) -> Sequence[Match]:
    """Return `most` matches at most, those of the highest cosine first."""
    return sorted(matches, key=lambda match: -match.cosine)[:most]
