"""Why a hit is one and how its course runs, each on one line for people. Knows hits, looks nothing up.

`several` says whether the query had more references than one, so that times alone would not tell whose they are.
"""

from __future__ import annotations

from math import floor
from pathlib import PurePath
from typing import TYPE_CHECKING

from e2vsearch.cli.output import clock

if TYPE_CHECKING:
    from e2vsearch.collection import Hit
    from e2vsearch.collection.results import Match

_MATCHES = 2  # shown of a hit's
_STATIONS = 5  # shown of a course


def why(hit: Hit, several: bool) -> str:
    """``both angry 0.81/0.74; 00:12.0 like 12:41.2 0.941; not calm.wav -0.120; emotion 0.31 + rest 0.63``."""
    if hit.why is None:
        return ""
    parts = []
    if hit.why.shared:
        shared = ", ".join(f"{each.emotion} {each.reference:.2f}/{each.moment:.2f}" for each in hit.why.shared[:2])
        parts.append(f"both {shared}")
    nearest = sorted(hit.why.matches, key=lambda match: -match.cosine)[:_MATCHES]
    parts += [f"{_at(match, several)} like {clock(match.start_s)} {match.cosine:.3f}" for match in nearest]
    parts += [f"not {_name(each.reference)} -{each.penalty:.3f}" for each in hit.why.against]
    if hit.why.emotion_part is not None and hit.why.rest_part is not None:
        parts.append(f"emotion {hit.why.emotion_part:.2f} + rest {hit.why.rest_part:.2f}")
    return "; ".join(parts)


def course(hit: Hit, several: bool) -> str:
    """When the call comes to each station of the reference: ``emotion:neutral 00:03.0, emotion:angry 01:12.4``."""
    reached = [
        match
        for before, match in zip((None, *hit.course), hit.course, strict=False)
        if before is None or _key(before) != _key(match)
    ]
    if len(reached) > _STATIONS:
        reached = [reached[round(at * (len(reached) - 1) / (_STATIONS - 1))] for at in range(_STATIONS)]
    return ", ".join(f"{_at(match, several)} {clock(match.start_s)}" for match in reached)


def percentile(hit: Hit) -> str:
    """``99.7 %``, rounded down: 100 is said only where no pair that was drawn is as near."""
    return "" if hit.percentile is None else f"{floor(hit.percentile * 10) / 10:.1f} %"


def _key(match: Match) -> tuple[str, float | None]:
    return match.reference, match.reference_start_s


def _at(match: Match, named: bool) -> str:
    """A moment of the reference, under its name where there are several."""
    start_s = match.reference_start_s
    if start_s is None:
        return _name(match.reference)
    return f"{_name(match.reference)}@{clock(start_s)}" if named else clock(start_s)


def _name(reference: str) -> str:
    """A file without its folders; an id or name as it is."""
    return PurePath(reference).name or reference
