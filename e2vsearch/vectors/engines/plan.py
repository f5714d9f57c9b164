"""The plan of a search in an engine: which segments may be returned, and what the engine is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from e2vsearch.feed import SqlFilter
from e2vsearch.vectors.engine import CandidateEngine, Condition
from e2vsearch.vectors.engines.report import MOST_RESULTS, EngineReport
from e2vsearch.vectors.exact import Ints, rows_of

NONE = np.empty(0, np.int64)
_STEP = 40  # ids that are sent and hashed in the time that the condition takes at a step along the index, some 20 us
_WORTH = 2  # ids that a candidate costs: Milvus takes 4 us for one, and 3 for a candidate, which is read in 4 to 12
_MORE = 1.5  # candidates where they are filtered afterwards: a filter is not spread evenly


@dataclass(frozen=True, slots=True)
class Choice:
    """Which segments may be returned."""

    allowed: Ints | None  # ascending, without what is excluded; all when None
    excluded: Ints  # ascending

    @classmethod
    def of(cls, allowed: Ints | None, excluded: Ints | None) -> Choice:
        """Return what a search is given, with ids ascending."""
        out = NONE if excluded is None else np.unique(excluded)
        if allowed is None:
            return cls(None, out)
        ids = allowed if bool((allowed[1:] > allowed[:-1]).all()) else np.unique(allowed)
        return cls(ids[~rows_of(out, ids)[1]] if out.size else ids, out)

    def left(self, ids: Ints) -> Ints:
        """Return ids of any shape, with -1 in place of those that may not be returned."""
        out = rows_of(self.excluded, ids)[1]
        if self.allowed is not None:
            out |= ~rows_of(self.allowed, ids)[1]
        return np.where(out, -1, ids)


@dataclass(frozen=True, slots=True)
class Plan:
    """One call of an engine."""

    candidates: int
    where: Ints | SqlFilter | None
    breadth: int

    @classmethod
    def of(
        cls,
        engine: CandidateEngine,
        report: EngineReport,
        asked: int,
        chosen: Choice,
        share: float,
        condition: Condition | None = None,
    ) -> Plan:
        """Push the filter down, as a statement or as ids, where the engine takes that; else ask for more.

        Whatever it is, the candidates are held against the filter again: what is excluded is not in the statement.
        """
        where: Ints | SqlFilter | None = None
        if chosen.allowed is not None and share < 1:
            # a step in so many is kept, by `share`, which the planner's estimates miss by far on new tables
            if engine.joins and condition is not None and len(chosen.allowed) * share >= _STEP * asked:
                where = condition()
            more = int(asked * _MORE / share) + 1
            takes_ids = len(chosen.allowed) <= engine.filters
            if where is None and takes_ids and (engine.joins or len(chosen.allowed) <= _WORTH * min(more, engine.most)):
                where = chosen.allowed
            if where is None:
                asked = more
        asked = min(asked, engine.most)
        breadth = report.breadth(min(asked, MOST_RESULTS))
        if where is not None and report.lists is not None:
            # of the lists visited only a share is left: recall at 1 % was 0.6 with as many lists as without a filter
            breadth = min(report.lists, int(breadth / share) + 1)
        return cls(asked, where, breadth)


def packed(ids: Ints) -> Ints:
    """Return each row's ids without the columns in which no row has any."""
    order = np.argsort(ids < 0, axis=1, kind="stable")
    ids = np.take_along_axis(ids, order, axis=1)
    return ids[:, : int((ids >= 0).sum(axis=1).max(initial=0))]
