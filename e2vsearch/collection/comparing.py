"""How alike two recordings feel, from what was heard in each. Knows moments, nothing of files or of a database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from e2vsearch.collection.results import Comparison, Heard, Moment, Side
from e2vsearch.emotions import Emotion, named_as_one
from e2vsearch.errors import QueryError
from e2vsearch.projections import RAW, Projection, unit
from e2vsearch.space import Space


def compare_heard(space: Space, a: tuple[str, Heard], b: tuple[str, Heard], projection: Projection = RAW) -> Comparison:
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
        unit((vectors * lengths(heard.moments)[:, None]).sum(axis=0))
        for vectors, (_, heard) in zip(units, (a, b), strict=True)
    ]
    sides = [_side(space, name, heard, int(at)) for (name, heard), at in zip((a, b), best, strict=True)]
    score = float(np.clip(means[0] @ means[1], -1.0, 1.0))
    return Comparison(score, float(cosines[best]), sides[0], sides[1], space)


def _side(space: Space, name: str, heard: Heard, best: int) -> Side:
    moment, emotion = heard.moments[best], emotion_of(space, heard.moments)
    return Side(
        name=name,
        segments=len(heard.moments),
        speech_s=float(lengths(heard.moments).sum()),
        emotion=None if emotion is None else emotion.name,
        emotion_score=None if emotion is None else emotion.score,
        arousal=None if emotion is None else emotion.arousal,
        valence=None if emotion is None else emotion.valence,
        channel=moment.channel,
        start_s=moment.start_s,
        end_s=moment.end_s,
    )


def emotion_of(space: Space, moments: Sequence[Moment]) -> Emotion | None:
    """What moments are named as a whole; None where the encoder has no classes."""
    scores = [each.scores for each in moments if each.scores is not None]
    if len(scores) < len(moments):
        return None
    levels_db = [moment.level_db for moment in moments]
    return named_as_one(np.stack(scores), space.labels, lengths(moments).tolist(), levels_db)


def lengths(moments: Iterable[Moment]) -> NDArray[np.float64]:
    """Seconds of each moment: what it weighs in a mean."""
    return np.array([moment.end_s - moment.start_s for moment in moments])
