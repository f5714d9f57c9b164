"""How alike two recordings feel, from what was heard in each. Knows moments, nothing of files or of a database."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from e2vsearch.encoders.base import Encoder
from e2vsearch.errors import CatalogError, QueryError, SettingsError
from e2vsearch.pipeline import emotion_of
from e2vsearch.projections import adapt, network
from e2vsearch.projections.base import RAW, Projection, unit
from e2vsearch.projections.view import projected_space
from e2vsearch.settings import Settings
from e2vsearch.types import ComparedAudio, Comparison, EmbeddedAudio, Space, segment_durations


def compare_audio(
    space: Space, a: tuple[str, EmbeddedAudio], b: tuple[str, EmbeddedAudio], projection: Projection = RAW
) -> Comparison:
    """The comparison of two recordings that were listened to, each with its name.

    Args:
        space: that they were heard in.
        a: one of them.
        b: the other.
        projection: of each moment's vector, before any mean is taken.

    Raises:
        QueryError: one of them has no speech.
    """
    for name, heard in (a, b):
        if not heard.moments:
            raise QueryError(f"no speech found in {name} - compare clips in which somebody speaks")
    units = [unit(projection.apply(np.stack([moment.vector for moment in heard.moments]))) for _, heard in (a, b)]
    cosines = np.clip(units[0] @ units[1].T, -1.0, 1.0)
    best = np.unravel_index(int(np.argmax(cosines)), cosines.shape)
    means = [
        unit((vectors * segment_durations(heard.moments)[:, None]).sum(axis=0))
        for vectors, (_, heard) in zip(units, (a, b), strict=True)
    ]
    sides = [_side(space, name, heard, int(at)) for (name, heard), at in zip((a, b), best, strict=True)]
    score = float(np.clip(means[0] @ means[1], -1.0, 1.0))
    return Comparison(score, float(cosines[best]), sides[0], sides[1], space)


def _side(space: Space, name: str, heard: EmbeddedAudio, best: int) -> ComparedAudio:
    moment, emotion = heard.moments[best], emotion_of(space, heard.moments)
    return ComparedAudio(
        name=name,
        segments=len(heard.moments),
        speech_s=float(segment_durations(heard.moments).sum()),
        emotion=None if emotion is None else emotion.name,
        emotion_score=None if emotion is None else emotion.score,
        arousal=None if emotion is None else emotion.arousal,
        valence=None if emotion is None else emotion.valence,
        channel=moment.channel,
        start_s=moment.start_s,
        end_s=moment.end_s,
    )


@dataclass(frozen=True, slots=True)
class AtHand:
    """A projection, and where it comes from."""

    projection: Projection
    space: Space  # the encoder's, with the projection's name
    why: str  # for people: whose projection it is, or why it is none


def at_hand(options: Settings, encoder: Encoder) -> AtHand:
    """What vectors of a space are compared through.

    Args:
        options: they name a collection, whether it is there or not.
        encoder: what they were made with. What ships with it, or its head, is taken where the collection is of no help.

    Raises:
        AnalysisError: the projection in use is damaged.
    """
    space = encoder.space
    try:
        from e2vsearch.collection import Collection

        collection = Collection.open(options.index, create=False)
    except (CatalogError, SettingsError) as error:  # two clips can be compared without one
        return _alone(encoder, str(error).partition(" - ")[0])
    with collection:
        if collection.space is None:
            return _alone(encoder, f"{collection.place.named} holds no recordings yet")
        if collection.space != space:
            return _alone(encoder, f"{collection.place.named} holds vectors of another space: {collection.space}")
        lens = collection.lens()
        uses = "" if lens.projection.kind == RAW.kind else f" the projection {lens.projection.name}"
        return AtHand(lens.projection, lens.named(space), f"{collection.place.named} uses{uses or ' no projection'}")


def _alone(encoder: Encoder, why: str) -> AtHand:
    found = adapt.alone(encoder.projection(), encoder.head(), encoder.space.dim)
    if found is RAW:
        return AtHand(RAW, encoder.space, why)
    source = "it ships with" if found.kind == network.KIND else "it is the head of"
    return AtHand(found, projected_space(encoder.space, found), f"{source} {encoder.space.encoder}; {why}")
