"""How alike two recordings feel, from what was heard in each. Knows moments, nothing of files or of a database."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from e2vsearch.collection.results import Comparison, Heard, Moment, Side
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
    moment = heard.moments[best]
    emotion, emotion_score = None, None
    if all(each.scores is not None for each in heard.moments):
        weights = lengths(heard.moments)
        scores = np.stack([each.scores for each in heard.moments if each.scores is not None])
        mean = (scores * weights[:, None]).sum(axis=0) / weights.sum()
        emotion, emotion_score = space.labels[int(mean.argmax())], float(mean.max())
    spoken = float(lengths(heard.moments).sum())
    return Side(name, len(heard.moments), spoken, emotion, emotion_score, moment.channel, moment.start_s, moment.end_s)


def lengths(moments: Iterable[Moment]) -> NDArray[np.float64]:
    """Seconds of each moment: what it weighs in a mean."""
    return np.array([moment.end_s - moment.start_s for moment in moments])
