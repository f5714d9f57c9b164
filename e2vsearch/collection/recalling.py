"""What was heard when a stored segment or call was ingested, as if it were heard now. Decodes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from e2vsearch.catalog.records import number_of
from e2vsearch.collection.results import Heard, Moment

if TYPE_CHECKING:
    from e2vsearch.collection.opened import Collection


def recall(collection: Collection, identifier: str) -> Heard:
    """The spoken spans of ``seg:123`` or ``call:45``, with their vectors and scores, in order of time.

    Raises:
        NotStored: it is not there.
    """
    if identifier.startswith("seg:"):
        segments = [collection.segment(identifier)]
        recording = collection.recording(segments[0].recording)
    else:
        recording = collection.recording(identifier)
        segments = collection.segments(identifier)
    numbers = [number_of(segment.id, "seg") for segment in segments]
    batch = collection.catalog.feed().fetch(np.array(numbers, np.int64))
    vectors = dict(zip(batch.ids.tolist(), batch.vectors, strict=True))
    moments = []
    for number, segment in zip(numbers, segments, strict=True):
        if number in vectors:  # else another process has removed it meanwhile
            scores = np.array(list(segment.scores.values()), np.float32) if segment.scores else None
            at = segment.channel, segment.start_s, segment.end_s
            moments.append(Moment(*at, vectors[number], scores, segment.level_db))
    info = recording.duration_s, recording.channels, recording.sampling_rate_hz, recording.format
    return Heard(tuple(moments), *info)
