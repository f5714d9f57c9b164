"""Clips of a map's central segments, small enough to lie in a page."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.maps.types import Cluster, Progress
from e2vsearch.audio import SAMPLING_RATE_HZ, Signal
from e2vsearch.errors import AudioError, NotStored

LIMIT_BYTES = 6_000_000
"""Of all clips together, encoded: 250 of five seconds."""

_LONGEST_S = 8.0


@dataclass(slots=True)
class Clips:
    """Sounds by segment, and the segments whose sound cannot be read."""

    sounds: dict[str, str] = field(default_factory=dict)  # "seg:1" → "data:audio/ogg;base64,…"
    missing: list[str] = field(default_factory=list)


def clips(
    context: AnalysisContext,
    clusters: Sequence[Cluster],
    limit_bytes: int = LIMIT_BYTES,
    progress: Progress | None = None,
) -> Clips:
    """Return clips of the clusters' segments: the first of each, then the second … up to the limit in bytes."""
    turns = zip_longest(*(cluster.segments for cluster in clusters))
    segments = [each.segment for turn in turns for each in turn if each is not None]
    found, size = Clips(), 0
    for done, segment in enumerate(segments, start=1):
        try:
            signal = context.clip(segment)
        except (AudioError, NotStored):  # its file was moved or damaged since: the page says so
            found.missing.append(segment)
            continue
        sound = _encode(signal[:, : int(_LONGEST_S * SAMPLING_RATE_HZ)])
        size += len(sound)
        if size > limit_bytes:
            break
        found.sounds[segment] = f"data:audio/ogg;base64,{sound}"
        if progress is not None:
            progress("cutting clips", done, len(segments))
    return found


def _encode(signal: Signal) -> str:
    """Return a signal as base64 of Ogg with Opus inside; Vorbis where libsndfile was built without Opus."""
    import soundfile

    subtype = "OPUS" if "OPUS" in soundfile.available_subtypes("OGG") else "VORBIS"
    buffer = io.BytesIO()
    soundfile.write(buffer, signal.T, SAMPLING_RATE_HZ, format="OGG", subtype=subtype)
    return b64encode(buffer.getvalue()).decode("ascii")
