"""Compares two embedded recordings: how alike they feel, and which of their segments are most alike."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from e2vsearch.audio import AudioSource
from e2vsearch.catalog.writer import Catalog
from e2vsearch.encoders.base import Encoder
from e2vsearch.errors import QueryError
from e2vsearch.pipeline import emotion_of, stored_audio
from e2vsearch.projections import adapt, network
from e2vsearch.projections.base import RAW, Projection
from e2vsearch.projections.recalibrate import recalibrate
from e2vsearch.projections.view import SearchView, projected_space
from e2vsearch.search.query import AudioQuery, identifier_of, named
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


def compare(
    a: AudioQuery,
    b: AudioQuery,
    through: SearchView | Encoder,
    catalog: Catalog,
    embed: Callable[[AudioSource], EmbeddedAudio],
    actor: str,
) -> Comparison:
    """Return how alike two recordings feel, each a clip or the id of what is stored.

    Args:
        a: one of them.
        b: the other.
        through: the projection in use; of a collection that is empty, its encoder.
        catalog: of the collection.
        embed: embeds a clip, with the probabilities that stored segments have.
        actor: who asks, for the audit log.

    Raises:
        QueryError: one of them has no speech, or is not stored.
        AudioError, EncoderError: one of them cannot be read or encoded.
    """
    if catalog.policy.audit:
        catalog.audit(actor, "compare", {"a": named(a), "b": named(b)})
    sides = [_named(source, catalog, embed) for source in (a, b)]
    if isinstance(through, SearchView):
        return compare_audio(comparison_view(None, through, catalog.space, catalog.name), *sides)
    view = comparison_view(through, None, None, catalog.name)
    return compare_audio(view, *((name, recalibrate(view.projection, found)) for name, found in sides))


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


def _named(
    source: AudioQuery, catalog: Catalog, embed: Callable[[AudioSource], EmbeddedAudio]
) -> tuple[str, EmbeddedAudio]:
    """Return one side of a comparison: how it is called, and its segments, stored or embedded now."""
    identifier = identifier_of(source)
    if identifier is not None:
        return identifier, stored_audio(catalog, identifier)
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else f"{type(source).__name__} audio"
    return name, embed(cast(AudioSource, source))


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
    encoder: Encoder | None, view: SearchView | None, space: Space | None, place: str
) -> ComparisonView:
    """Return the projection that clips are compared through.

    Args:
        encoder: that embeds the clips; None for the collection's own.
        view: of the open collection; None where it is empty.
        space: that the collection is pinned to.
        place: how messages name the collection.
    """
    if view is not None and space is not None and (encoder is None or space == encoder.space):
        uses = "no projection" if view.projection.kind == RAW.kind else f"the projection {view.projection.name}"
        return ComparisonView(view.projection, view.projected(space), f"{place} uses {uses}")
    assert encoder is not None, "an empty collection has no view of its own"
    held = "no recordings yet" if space is None else f"vectors of another space: {space}"
    return encoder_view(encoder, f"{place} holds {held}")


def encoder_view(encoder: Encoder, reason: str) -> ComparisonView:
    """Return the projection that clips are compared through where no collection fits, for the reason given."""
    found = adapt.without_collection(encoder.projection(), encoder.head(), encoder.space.dim)
    if found is RAW:
        return ComparisonView(RAW, encoder.space, reason)
    source = "it ships with" if found.kind == network.KIND else "it is the head of"
    return ComparisonView(found, projected_space(encoder.space, found), f"{source} {encoder.space.encoder}; {reason}")
