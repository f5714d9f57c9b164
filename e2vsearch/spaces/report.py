"""What a re-embedding would do, and what it did."""

from __future__ import annotations

from dataclasses import dataclass

from e2vsearch.ingest.reports import FileFailure
from e2vsearch.types import Space


@dataclass(frozen=True, slots=True)
class ReembedPlan:
    """What a re-embedding would do, by what is stored and which files are there; nothing was read or written."""

    before: Space
    after: Space
    recordings: int  # to be embedded
    already: int  # have vectors of the new space
    missing: tuple[FileFailure, ...]  # whose audio is not there any more


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """What a re-embedding did."""

    before: Space
    after: Space
    switched: bool  # the new space is in use
    interrupted: bool  # it was stopped, and goes on when it is run again
    recordings: int  # embedded in this run
    segments: int  # of them
    already: int  # recordings that had vectors of the new space before
    missing: tuple[FileFailure, ...]  # recordings and examples of labels whose audio cannot be embedded
    removed: int  # of the missing, with the switch
    kept: bool  # vectors and index of the former space
    log_left: str  # why the database's log may still hold bytes of what was deleted; "" if it does not
    classifiers: tuple[str, ...]  # to be trained again; their predictions stay
    maps: tuple[str, ...]  # to be made again; they show where segments lay before
    projections: tuple[str, ...]  # of the former space, to be fitted again
    seconds: float
