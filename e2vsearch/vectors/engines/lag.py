"""The distance of a collection from what its engine holds, and whether a build is due."""

from __future__ import annotations

from dataclasses import dataclass

from e2vsearch.vectors.engine import CandidateEngine, Filled
from e2vsearch.vectors.engines.report import EngineReport

_SMALL = 1000  # below, no engine is worth its upkeep: as for FAISS
_TAIL_ROWS = 1000  # to be written to the engine: each query compares them exactly, 0.14 ms for a thousand
_TOMBSTONE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class EngineLag:
    """The distance of the collection from what its engine holds."""

    filled: Filled
    report: EngineReport | None
    live: int
    held: int
    tail: int
    tombstones: int
    damage: str | None

    def due(self, engine: CandidateEngine) -> str | None:
        """Return why a build is due; None if none is. Below 1,000 segments only a damaged one is."""
        if self.damage is not None:
            return self.damage
        if self.live < _SMALL:
            return None
        if self.filled.watermark is None or self.report is None:
            return f"there is no index in {engine.name} yet over {self.live} segments"
        if self.tail > _TAIL_ROWS:
            return f"{self.tail} segments came since {engine.name} was written to"
        if self.tombstones > _TOMBSTONE_SHARE * self.held:
            return f"{self.tombstones} of the {self.held} segments in {engine.name} are gone"
        wanted = engine.choose(self.held) if self.report.requested == "auto" else self.report.requested
        if wanted != self.filled.kind:
            return f"the index in {engine.name} is {self.filled.kind}, and {self.held} segments take {wanted}"
        return None
