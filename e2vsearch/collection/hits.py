"""Ranked segments to hits: what is stored of each beside its scores. Knows rows, nothing of how they were found."""

from __future__ import annotations

from itertools import zip_longest

from e2vsearch.catalog import Catalog
from e2vsearch.catalog.records import number_of, segment_id
from e2vsearch.collection.ranking import Ranked
from e2vsearch.collection.results import Hit


def hits_of(catalog: Catalog, ranked: Ranked) -> tuple[Hit, ...]:
    """The hits, in order; what another process removed since the search is left out."""
    segments = dict(catalog.segments(ranked.segments))
    of = {number_of(segment.recording, "call") for segment in segments.values()}
    recordings = {recording.id: recording for _, recording in catalog.recordings(sorted(of))}
    hits = []
    rows = zip_longest(ranked.segments, ranked.scores, ranked.moments, ranked.fused)
    for number, score, moment, fused in rows:
        segment = segments.get(number)
        if segment is None or segment.recording not in recordings:
            continue
        recording = recordings[segment.recording]
        hits.append(
            Hit(
                score=score,
                recording=recording.id,
                segment=segment_id(number),
                name=recording.name,
                uri=recording.uri,
                channel=segment.channel,
                start_s=segment.start_s,
                end_s=segment.end_s,
                moment_score=moment,
                emotion=segment.emotion,
                emotion_score=segment.emotion_score,
                metadata=recording.metadata,
                scores=segment.scores,
                text=segment.text,
                label=segment.label,
                label_score=segment.label_score,
                arousal=segment.arousal,
                valence=segment.valence,
                fused=fused or {},
            )
        )
    return tuple(hits)
