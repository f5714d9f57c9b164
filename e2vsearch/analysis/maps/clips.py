"""The sound of a map's most typical moments, small enough to lie in a page. Knows an open collection and clusters."""

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
    """Sounds by segment, and the segments that could not be heard."""

    sounds: dict[str, str] = field(default_factory=dict)  # "seg:1" → "data:audio/ogg;base64,…"
    gone: list[str] = field(default_factory=list)


def clips(
    context: AnalysisContext,
    clusters: Sequence[Cluster],
    limit_bytes: int = LIMIT_BYTES,
    progress: Progress | None = None,
) -> Clips:
    """Clips of the clusters' moments: first the best of each, then the second … until there are enough bytes."""
    turns = zip_longest(*(cluster.moments for cluster in clusters))
    moments = [moment for turn in turns for moment in turn if moment is not None]
    found, spent = Clips(), 0
    for done, moment in enumerate(moments, start=1):
        try:
            signal = context.clip(moment.segment)
        except (AudioError, NotStored):  # its file was moved or damaged since: the page says so
            found.gone.append(moment.segment)
            continue
        sound = _encoded(signal[:, : int(_LONGEST_S * SAMPLING_RATE_HZ)])
        spent += len(sound)
        if spent > limit_bytes:
            break
        found.sounds[moment.segment] = f"data:audio/ogg;base64,{sound}"
        if progress is not None:
            progress("cutting clips", done, len(moments))
    return found


def _encoded(signal: Signal) -> str:
    """Ogg with Opus inside, base64; Vorbis where libsndfile was built without Opus."""
    import soundfile

    subtype = "OPUS" if "OPUS" in soundfile.available_subtypes("OGG") else "VORBIS"
    buffer = io.BytesIO()
    soundfile.write(buffer, signal.T, SAMPLING_RATE_HZ, format="OGG", subtype=subtype)
    return b64encode(buffer.getvalue()).decode("ascii")
