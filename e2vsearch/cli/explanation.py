"""Formats why a hit is one, and the alignment of a trajectory, as one cell of a table."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from e2vsearch.display import clock, evenly, nearest

if TYPE_CHECKING:
    from e2vsearch.types import Hit, Match

_EMOTIONS = 2  # shown of those that reference and hit share
_MATCHES = 2  # shown of a hit's
_ALIGNED = 5  # shown of an alignment


def why(hit: Hit, several: bool) -> str:
    """Return ``both angry 0.81/0.74; 00:12.0 like 12:41.2 0.941; avoid calm.wav -0.120``.

    Args:
        hit: with its explanation.
        several: whether there are several references, so that each is named.
    """
    if hit.why is None:
        return ""
    shared = [f"{each.emotion} {each.reference:.2f}/{each.segment:.2f}" for each in hit.why.shared[:_EMOTIONS]]
    parts = [f"both {', '.join(shared)}"] if shared else []
    matches = nearest(hit.why.matches, _MATCHES)
    parts += [f"{_at(match, several)} like {clock(match.start_s)} {match.cosine:.3f}" for match in matches]
    parts += [f"avoid {_name(each.reference)} -{each.penalty:.3f}" for each in hit.why.avoided]
    return "; ".join(parts)


def alignment(hit: Hit, several: bool) -> str:
    """Return where the recording reaches each reference segment: ``emotion:neutral 00:03.0, emotion:angry 01:12.4``."""
    reached = [
        match
        for before, match in zip((None, *hit.alignment), hit.alignment, strict=False)
        if before is None or _key(before) != _key(match)
    ]
    return ", ".join(f"{_at(match, several)} {clock(match.start_s)}" for match in evenly(reached, _ALIGNED))


def _key(match: Match) -> tuple[str, float | None]:
    return match.reference, match.reference_start_s


def _at(match: Match, named: bool) -> str:
    """Return the time of a reference segment, with the reference's name where there are several."""
    start_s = match.reference_start_s
    if start_s is None:
        return _name(match.reference)
    return f"{_name(match.reference)}@{clock(start_s)}" if named else clock(start_s)


def _name(reference: str) -> str:
    """Return a file without its folders; an id or name as it is."""
    return PurePath(reference).name or reference
