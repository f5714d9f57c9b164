"""The voices of a collection, as far as they can be told apart, and what each shifts. Knows arrays alone, no labels.

How a voice lies at rest looks to an encoder like an emotion of its own, so that among the nearest are too many of the
same voice, and too few of others that feel the same. Taking each voice's own centre off mends that, but nobody says
which moments are of one voice. An encoder that gives a voice part beside what it hears of emotion lets a collection
find out: what emotion tells of that part is taken off by ridge regression, the rest falls into clusters, and each
cluster has a shift, found class by class as the collection's own is (`shifts`).

A cluster that is loose is no voice: it holds what a telephone's noise or a mood made alike, and its shift would take
emotion off. So its shift counts by how near its members lie to its middle, and where voices cannot be told apart,
nothing is shifted. What that brings and costs on real speech is in ``training/README.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.projections.base import softmax
from e2vsearch.vectors.exact import Float64s, unit

PER_VOICE = 64
"""Segments for each cluster that is looked for: with fewer, a cluster is a voice in one mood, and its shift takes the
mood off (EMO-DB, 32: .617 mAP, 64: .642); with more it is of several voices (CREMA-D, 64: .662, 128: .630)."""

MOST = 64
"""Clusters of a run at most. Where there are more voices, a cluster is of voices that are alike."""

PRIOR = 0.75
"""Segments of a class in a cluster that weigh as much as nothing being shifted."""

_RUNS = 4
"""Times that clusters are looked for, all of them kept: their borders are chance, the mean of several is less so. On
unseen voices of CREMA-D one run has .649 to .667 mAP, as its start falls, four have .663 to .668."""

_LOOSE, _TIGHT = 0.4, 0.5
"""Mean cosines of a cluster's members with its middle, of one that counts for nothing and of one that counts in full.
With `light`'s voice part the means are .52 on EMO-DB, .58 on unseen voices of CREMA-D and .37 through a telephone."""

_ONE_MOOD, _ALL_MOODS = 0.75, 0.95
"""Moods of a cluster, as a share of the collection's, with which it counts for nothing and in full."""

_SHARPENED = 2.0  # the power of class probabilities by which moods are counted

_TEMPERATURE = 0.05
"""Of the cosines by which a segment belongs to clusters."""

_RIDGE = 0.03
"""Of the regression on the emotion part, whose numbers have a mean square of 1 / dim."""

_ROUNDS = 20  # of k-means


@dataclass(frozen=True, slots=True, eq=False)
class Speakers:
    """Clusters of the voice part, and how what is said of emotion is shifted in each.

    With e the emotion part of a segment, of length one, and u its voice part ::

        u' = unit(u - (e, 1) aside)
        shift = softmax(places u' / .05) shifts
    """

    aside: NDArray[np.float32]  # (emotion dims + 1, voice dims): what the emotion part tells of the voice part
    places: NDArray[np.float32]  # (k, voice dims), each of length one
    shifts: NDArray[np.float32]  # (k, dim)

    def __len__(self) -> int:
        """How many there are: none, in a collection that was not looked at."""
        return len(self.places)

    @property
    def dim(self) -> int:
        """Length of a voice part."""
        return int(self.places.shape[1])

    def belonging(self, emotion: Float64s, voice: NDArray[np.floating[Any]]) -> Float64s:
        """How much each segment is of each cluster, ``(n, k)``: rows sum to one."""
        likeness = _rest(emotion, voice, self.aside) @ self.places.T.astype(np.float64)
        return softmax(likeness / _TEMPERATURE)

    def shift(self, emotion: Float64s, voice: NDArray[np.floating[Any]]) -> Float64s:
        """What to take off each segment beside the collection's own shift, ``(n, dim)``."""
        return self.belonging(emotion, voice) @ self.shifts.astype(np.float64)


def nobody(emotion_dims: int, voice_dims: int, dim: int) -> Speakers:
    """No voices at all, so that nothing is shifted."""
    aside = np.zeros((emotion_dims + 1, voice_dims), np.float32)
    return Speakers(aside, np.zeros((0, voice_dims), np.float32), np.zeros((0, dim), np.float32))


def found(emotion: Float64s, voice: NDArray[np.floating[Any]]) -> tuple[Speakers, Float64s] | None:
    """The clusters of some of a collection's segments, nothing shifted yet, and how far each is one, ``(k,)``.

    None where there are too few segments, no voice parts, or only loose clusters. A loose one beside others
    stays, or what is of it would count as of one of those.

    Args:
        emotion: ``(n, e)`` emotion parts, each of length one.
        voice: ``(n, v)`` voice parts.
    """
    count = min(MOST, len(voice) // PER_VOICE)
    if count < 2 or not voice.shape[1]:
        return None
    told = _with_one(emotion)
    spread = told.T @ told + _RIDGE * len(told) * np.diag([1.0] * emotion.shape[1] + [0.0])
    aside = np.linalg.solve(spread, told.T @ voice.astype(np.float64)).astype(np.float32)
    rest = _rest(emotion, voice, aside)
    places = np.concatenate([_clusters(rest, count, seed) for seed in range(_RUNS)])
    near = (rest @ places.T).reshape(len(rest), _RUNS, count)
    own = near == near.max(axis=2, keepdims=True)
    cosines = (near * own).sum(axis=0) / np.maximum(own.sum(axis=0), 1)
    tight = np.clip((cosines.reshape(-1) - _LOOSE) / (_TIGHT - _LOOSE), 0.0, 1.0)
    if not tight.any():
        return None
    return Speakers(aside, places.astype(np.float32), np.zeros((len(places), 0), np.float32)), tight


def varied(belonging: Float64s, sure: Float64s) -> Float64s:
    """How far each group is in as many moods as all are, ``(k,)`` from 0 to 1.

    Whoever speaks in one mood only has a mean that is the mood, not the voice. Moods are the exponential of the
    entropy of a group's mean class probabilities.

    Args:
        belonging: ``(n, k)`` how much each segment is of each group.
        sure: ``(n, c)`` probabilities of the classes, all being equally common.
    """
    sharp = sure**_SHARPENED
    sharp /= sharp.sum(axis=1, keepdims=True)

    def moods(mean: Float64s) -> Float64s:
        return np.asarray(np.exp(-(mean * np.log(np.maximum(mean, 1e-12))).sum(axis=-1)))

    each = belonging.T @ sharp / np.maximum(belonging.sum(axis=0), 1e-9)[:, None]
    share = moods(each) / moods(sharp.mean(axis=0))
    return np.asarray(np.clip((share - _ONE_MOOD) / (_ALL_MOODS - _ONE_MOOD), 0.0, 1.0))


def shifts(
    belonging: Float64s, sure: Float64s, vectors: Float64s, means: NDArray[np.floating[Any]], prior: float
) -> Float64s:
    """How groups of segments are shifted against what an encoder was trained on, class by class, ``(k, dim)``.

    What is said of a group does not hang on how much of it is of which class.

    Args:
        belonging: ``(n, k)`` how much each segment is of each group.
        sure: ``(n, c)`` probabilities of the classes.
        vectors: ``(n, dim)``.
        means: ``(c, dim)`` of the classes, in what the encoder was trained on.
        prior: segments of a class, in a group, that weigh as much as nothing being shifted.
    """
    counts = belonging.T @ sure
    weights = counts / (counts + prior)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    # all classes in one product: one for each class would take six times as long
    each = belonging * (sure @ (weights / np.maximum(counts, 1e-9)).T)
    return np.asarray(each.T @ vectors - weights @ means.astype(np.float64))


def _clusters(rest: Float64s, count: int, seed: int) -> Float64s:
    """Middles ``(count, v)`` by spherical k-means, each of length one."""
    import faiss

    means = faiss.Kmeans(rest.shape[1], count, niter=_ROUNDS, spherical=True, seed=1 + seed, min_points_per_centroid=1)
    means.train(np.ascontiguousarray(rest, np.float32))
    return unit(np.asarray(means.centroids))


def _rest(emotion: Float64s, voice: NDArray[np.floating[Any]], aside: NDArray[np.float32]) -> Float64s:
    return unit(np.asarray(voice, np.float64) - _with_one(emotion) @ aside.astype(np.float64))


def _with_one(emotion: Float64s) -> Float64s:
    return np.concatenate([emotion, np.ones((len(emotion), 1))], axis=1)
