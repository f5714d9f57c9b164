"""Clusters of a collection's speakers without labels, and the shift of each.

A speaker's resting voice resembles an emotion to an encoder, so that among the nearest segments are too many of the
same speaker. Subtracting each speaker's own centre cures that, where the speakers are known. An encoder with a voice
part beside its emotion part lets a collection cluster them: what the emotion part predicts of the voice part is
subtracted by ridge regression, the residual is clustered, and each cluster has a shift, estimated class by class as the
collection's own is (`class_shifts`).

A loose cluster is no speaker: it holds what a telephone's noise or an emotion made alike, and its shift would remove
emotion. So a shift is weighted by how near the members lie to the centroid, and where speakers cannot be separated,
nothing is shifted. Gains and costs on real speech are in ``training/README.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.projections.base import softmax
from e2vsearch.vectors.exact import Float64s, unit

PER_SPEAKER = 64
"""Segments for each cluster: with fewer, a cluster is a speaker in one emotion, and its shift removes that (EMO-DB, 32:
.617 mAP, 64: .642); with more it is of several speakers (CREMA-D, 64: .662, 128: .630)."""

MOST = 64
"""Clusters of a run, at most. With more speakers, a cluster is of speakers that are alike."""

PRIOR = 0.75
"""Segments of a class in a cluster that weigh as much as nothing being shifted."""

_RUNS = 4
"""Of k-means, all of them kept: their borders depend on the start, the mean of several less so. On unseen speakers of
CREMA-D one run has .649 to .667 mAP, four have .663 to .668."""

_LOOSE, _TIGHT = 0.4, 0.5
"""Mean cosines of a cluster's members with its centroid at which its weight is 0 and 1. With `light`'s voice part the
means are .52 on EMO-DB, .58 on unseen speakers of CREMA-D and .37 through a telephone."""

_ONE_EMOTION, _ALL_EMOTIONS = 0.75, 0.95
"""A cluster's perplexity as a share of the collection's, at which its weight is 0 and 1."""

_SHARPNESS = 2.0  # power of the class probabilities whose perplexity is taken
_TEMPERATURE = 0.05
"""Of the softmax over a segment's cosines with the centroids."""

_RIDGE = 0.03
"""Of the regression on the emotion part, whose numbers have a mean square of 1 / dim."""

_ROUNDS = 20  # of k-means


@dataclass(frozen=True, slots=True, eq=False)
class Speakers:
    """Clusters of the voice part, and the shift of each.

    With e the emotion part of a segment, of length one, and u its voice part ::

        r = unit(u - (e, 1) regression)
        shift = softmax(centroids r / .05) shifts
    """

    regression: NDArray[np.float32]  # (emotion dims + 1, voice dims), of the voice part on the emotion part
    centroids: NDArray[np.float32]  # (k, voice dims), each of length one
    shifts: NDArray[np.float32]  # (k, dim)

    def membership(self, emotion: Float64s, voice: NDArray[np.floating[Any]]) -> Float64s:
        """Return each segment's membership of each cluster, ``(n, k)``: rows sum to one."""
        cosines = _residual(emotion, voice, self.regression) @ self.centroids.T.astype(np.float64)
        return softmax(cosines / _TEMPERATURE)

    def shift(self, emotion: Float64s, voice: NDArray[np.floating[Any]]) -> Float64s:
        """Return what to subtract from each segment beside the collection's own shift, ``(n, dim)``."""
        return self.membership(emotion, voice) @ self.shifts.astype(np.float64)


def no_speakers(emotion_dims: int, voice_dims: int, dim: int) -> Speakers:
    """Return no clusters, so that nothing is shifted."""
    regression = np.zeros((emotion_dims + 1, voice_dims), np.float32)
    return Speakers(regression, np.zeros((0, voice_dims), np.float32), np.zeros((0, dim), np.float32))


def cluster_speakers(emotion: Float64s, voice: NDArray[np.floating[Any]]) -> tuple[Speakers, Float64s] | None:
    """Return the clusters of a collection's segments, without shifts, and their weights from 0 to 1, ``(k,)``.

    None where there are too few segments, no voice parts, or only loose clusters. A loose one beside others stays, or
    its segments would count as members of those.

    Args:
        emotion: ``(n, e)`` emotion parts, each of length one.
        voice: ``(n, v)`` voice parts.
    """
    count = min(MOST, len(voice) // PER_SPEAKER)
    if count < 2 or not voice.shape[1]:
        return None
    inputs = _with_one(emotion)
    scatter = inputs.T @ inputs + _RIDGE * len(inputs) * np.diag([1.0] * emotion.shape[1] + [0.0])
    regression = np.linalg.solve(scatter, inputs.T @ voice.astype(np.float64)).astype(np.float32)
    residual = _residual(emotion, voice, regression)
    centroids = np.concatenate([_centroids(residual, count, seed) for seed in range(_RUNS)])
    near = (residual @ centroids.T).reshape(len(residual), _RUNS, count)
    own = near == near.max(axis=2, keepdims=True)
    cosines = (near * own).sum(axis=0) / np.maximum(own.sum(axis=0), 1)
    weights = np.clip((cosines.reshape(-1) - _LOOSE) / (_TIGHT - _LOOSE), 0.0, 1.0)
    if not weights.any():
        return None
    return Speakers(regression, centroids.astype(np.float32), np.zeros((len(centroids), 0), np.float32)), weights


def emotional_variety(membership: Float64s, posteriors: Float64s) -> Float64s:
    """Return how far each group has as many emotions as the collection, ``(k,)`` from 0 to 1.

    The mean of a speaker with one emotion is that emotion, not the voice. Emotions are counted by the perplexity of a
    group's mean class probabilities.

    Args:
        membership: ``(n, k)`` of each segment in each group.
        posteriors: ``(n, c)`` class probabilities under a uniform prior.
    """
    sharp = posteriors**_SHARPNESS
    sharp /= sharp.sum(axis=1, keepdims=True)

    def perplexity(mean: Float64s) -> Float64s:
        return np.asarray(np.exp(-(mean * np.log(np.maximum(mean, 1e-12))).sum(axis=-1)))

    means = membership.T @ sharp / np.maximum(membership.sum(axis=0), 1e-9)[:, None]
    share = perplexity(means) / perplexity(sharp.mean(axis=0))
    return np.asarray(np.clip((share - _ONE_EMOTION) / (_ALL_EMOTIONS - _ONE_EMOTION), 0.0, 1.0))


def class_shifts(
    membership: Float64s, posteriors: Float64s, vectors: Float64s, means: NDArray[np.floating[Any]], prior: float
) -> Float64s:
    """Return the shift of each group against the training data, the mean over classes, ``(k, dim)``.

    It does not depend on a group's mix of classes.

    Args:
        membership: ``(n, k)`` of each segment in each group.
        posteriors: ``(n, c)`` class probabilities.
        vectors: ``(n, dim)``.
        means: ``(c, dim)`` of the classes in the training data.
        prior: segments of a class, in a group, that weigh as much as a shift of zero.
    """
    counts = membership.T @ posteriors
    weights = counts / (counts + prior)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    # all classes in one product: one for each class would take six times as long
    each = membership * (posteriors @ (weights / np.maximum(counts, 1e-9)).T)
    return np.asarray(each.T @ vectors - weights @ means.astype(np.float64))


def _centroids(residual: Float64s, count: int, seed: int) -> Float64s:
    """Return centroids ``(count, v)`` of spherical k-means, each of length one."""
    import faiss

    means = faiss.Kmeans(
        residual.shape[1], count, niter=_ROUNDS, spherical=True, seed=1 + seed, min_points_per_centroid=1
    )
    means.train(np.ascontiguousarray(residual, np.float32))
    return unit(np.asarray(means.centroids))


def _residual(emotion: Float64s, voice: NDArray[np.floating[Any]], regression: NDArray[np.float32]) -> Float64s:
    return unit(np.asarray(voice, np.float64) - _with_one(emotion) @ regression.astype(np.float64))


def _with_one(emotion: Float64s) -> Float64s:
    return np.concatenate([emotion, np.ones((len(emotion), 1))], axis=1)
