"""Compares two embedded recordings: how alike they feel, and which of their segments are most alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from e2vsearch.encoders.base import Encoder
from e2vsearch.errors import QueryError
from e2vsearch.pipeline import emotion_of
from e2vsearch.projections import adapt, network
from e2vsearch.projections.base import RAW, Projection
from e2vsearch.projections.view import SearchView, projected_space
from e2vsearch.types import ComparedAudio, Comparison, EmbeddedAudio, Space, segment_durations
from e2vsearch.vectors.exact import unit


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """The projection that two clips are compared through.

    Attributes:
        projection: applied to each segment's vector.
        space: the encoder's, with the projection's name.
        reason: for people: whose projection it is, or why there is none.
    """

    projection: Projection
    space: Space
    reason: str


def compare_audio(view: ComparisonView, a: tuple[str, EmbeddedAudio], b: tuple[str, EmbeddedAudio]) -> Comparison:
    """Return the comparison of two embedded recordings.

    Args:
        view: the projection of each segment's vector, before any mean is taken.
        a: one of them, with its name.
        b: the other, with its name.

    Raises:
        QueryError: one of them has no speech.
    """
    for name, embedded in (a, b):
        if not embedded.segments:
            raise QueryError(f"no speech found in {name} - compare clips in which somebody speaks")
    vectors = [np.stack([segment.vector for segment in embedded.segments]) for _, embedded in (a, b)]
    units = [unit(view.projection.apply(each)) for each in vectors]
    cosines = np.clip(units[0] @ units[1].T, -1.0, 1.0)
    best = np.unravel_index(int(np.argmax(cosines)), cosines.shape)
    means = [
        unit((np.asarray(rows) * segment_durations(embedded.segments)[:, None]).sum(axis=0))
        for rows, (_, embedded) in zip(units, (a, b), strict=True)
    ]
    compared = [
        _compared(view.space, name, embedded, int(at)) for (name, embedded), at in zip((a, b), best, strict=True)
    ]
    score = float(np.clip(means[0] @ means[1], -1.0, 1.0))
    return Comparison(score, float(cosines[best]), compared[0], compared[1], view.space, view.reason)


def _compared(space: Space, name: str, embedded: EmbeddedAudio, best: int) -> ComparedAudio:
    segment, emotion = embedded.segments[best], emotion_of(space, embedded.segments)
    return ComparedAudio(
        name=name,
        segments=len(embedded.segments),
        speech_s=float(segment_durations(embedded.segments).sum()),
        emotion=None if emotion is None else emotion.name,
        emotion_score=None if emotion is None else emotion.score,
        arousal=None if emotion is None else emotion.arousal,
        valence=None if emotion is None else emotion.valence,
        channel=segment.channel,
        start_s=segment.start_s,
        end_s=segment.end_s,
    )


def comparison_view(
    encoder: Encoder | None, view: SearchView | None, space: Space | None, reason: str
) -> ComparisonView:
    """Return the projection for comparing clips that are not stored.

    Args:
        encoder: that embeds the clips; None for the collection's own.
        view: of the open collection; None where there is none, or it is empty.
        space: that the collection is pinned to.
        reason: which collection it is, or why there is none.
    """
    if view is not None and space is not None and (encoder is None or space == encoder.space):
        uses = "no projection" if view.projection.kind == RAW.kind else f"the projection {view.projection.name}"
        return ComparisonView(view.projection, view.named(space), f"{reason} uses {uses}")
    assert encoder is not None, "an empty collection has no view of its own"
    if space is not None:
        reason = f"{reason} holds vectors of another space: {space}"
    found = adapt.alone(encoder.projection(), encoder.head(), encoder.space.dim)
    if found is RAW:
        return ComparisonView(RAW, encoder.space, reason)
    source = "it ships with" if found.kind == network.KIND else "it is the head of"
    return ComparisonView(found, projected_space(encoder.space, found), f"{source} {encoder.space.encoder}; {reason}")
