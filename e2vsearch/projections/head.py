"""A projection without labels: the row space of a classifier's head, beside the nuance outside it.

A linear head of L classes over vectors of d numbers has a row space of at most L - 1 directions (the softmax ignores
what all classes share), in which distances follow the model's emotions. They are kept as the head scales them, whitened
by the scatter within speakers (Hatch et al. 2006, within-class covariance normalisation, with the recording's channel
in the place of the class), half shrunk.

Nuance is everything else, standardised, less the directions in which whole recordings differ from one another: one
channel of a recording is one speaker on one line, so its mean is not emotion (Solomonoff et al. 2005, nuisance
attribute projection). Both scatters are the collection's own, without labels.

On EMO-DB with heads trained on CREMA-D: `light` .586 to .612 mAP, though the share of own-speaker hits rises from .17
to .19 (chance .10). With speakers known, the first `light` .527 to .552 and .21 to .17, and pooled frames of
Whisper-tiny.en's first blocks .408 to .486 and .23 to .17.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import SpaceMismatch, TooFewExamples
from e2vsearch.projections.linear import LinearProjection, deviations, nuance_map
from e2vsearch.types import Head
from e2vsearch.vectors.exact import Float64s, unit

SHARE = 0.4
"""Of nuance: on EMO-DB, with a head that was trained on CREMA-D, .4 has .03 mAP more than .2 and no more leak."""

LEAST_SEGMENTS = 20
"""Fewer do not show a collection's scatter."""

_SHRINKAGE = 0.5
_REMOVED = 0.98  # of the variance between whole recordings is removed …
_MOST_REMOVED = 24  # … in so many directions at most: EMO-DB's ten speakers span nine
_LEAST_SPEAKERS = 4  # with two segments or more each; fewer would take emotion for the voice
_LEAST_PROBABILITY = 1e-30  # of a class, as float32 keeps it


def head_projection(
    vectors: NDArray[np.floating],
    speakers: NDArray[np.int64],
    weights: NDArray[np.floating],
    *,
    name: str = "head",
    share: float = SHARE,
    varied: NDArray[np.bool_] | None = None,
) -> LinearProjection:
    """Return the projection of a head in a collection.

    Args:
        vectors: ``(n, dim)`` of the collection, of any length.
        speakers: ``(n,)``, who speaks; a channel of a recording counts as one.
        weights: ``(labels, dim)`` of the head. Its biases are priors of classes, and not in distances.
        name: of the projection.
        share: of nuance.
        varied: ``(n,)``: those whose speaker has several emotions, so that the speaker's mean is the voice; by default
            all of them. Of others nothing is removed from nuance.

    Raises:
        TooFewExamples: fewer than 20 vectors.
        SpaceMismatch: weights of another dimension, or of fewer than two classes.
    """
    if weights.ndim != 2 or weights.shape[1] != vectors.shape[1] or len(weights) < 2:
        raise SpaceMismatch(
            f"a head of shape {weights.shape} does not fit vectors of {vectors.shape[1]} numbers - "
            "take the encoder that the collection was made with"
        )
    if len(vectors) < LEAST_SEGMENTS:
        raise TooFewExamples(
            f"{len(vectors)} segments do not show a collection's scatter - ingest {LEAST_SEGMENTS} or more"
        )
    units = unit(vectors)
    centre = units.mean(axis=0)
    away = units - centre
    wide = weights.astype(np.float64)
    _, sizes, rows = np.linalg.svd(wide - wide.mean(axis=0), full_matrices=False)
    row_space = rows[sizes > 1e-6 * sizes[0]].T * sizes[sizes > 1e-6 * sizes[0]]  # (dim, at most labels - 1)
    logits = away @ row_space
    within = _within(logits, speakers)
    emotion = row_space @ _whitener(logits.T @ logits / len(logits) if within is None else within)
    chosen = np.ones(len(away), bool) if varied is None else varied
    nuance = nuance_map(away, _nuisance((away / deviations(away))[chosen], speakers[chosen]))
    return LinearProjection("head", name, centre.astype(np.float32), emotion.astype(np.float32), nuance, share)


def recover_head(vectors: NDArray[np.floating], scores: NDArray[np.floating]) -> Head:
    """Return the linear head that made scores of vectors, up to what all classes share.

    Logarithms of a softmax, less their mean, are linear in the vector: with more vectors than dimensions least squares
    recovers the head, with fewer its part in their span. A class whose score is 0 throughout was not scored: its
    weights are zero. Other zeros are rounded scores, and count as the least positive one.

    Args:
        vectors: ``(n, dim)``, the encoder's.
        scores: ``(n, labels)`` probabilities.

    Raises:
        TooFewExamples: fewer than 20 vectors.
    """
    if len(vectors) < LEAST_SEGMENTS:
        raise TooFewExamples(f"{len(vectors)} scored segments are too few to find the encoder's head by - ingest more")
    wide = vectors.astype(np.float64)
    middle = wide.mean(axis=0)
    away = wide - middle
    scored = scores.max(axis=0) > 0
    given = scores[:, scored].astype(np.float64)
    logs = np.log(np.maximum(given, max(_LEAST_PROBABILITY, float(given[given > 0].min(initial=1.0)))))
    logs -= logs.mean(axis=1, keepdims=True)
    ridge = 1e-6 * max(float((away**2).sum()) / away.shape[1], 1e-30) * np.eye(away.shape[1])
    weights, biases = np.zeros((scores.shape[1], wide.shape[1])), np.zeros(scores.shape[1])
    weights[scored] = np.linalg.solve(away.T @ away + ridge, away.T @ (logs - logs.mean(axis=0))).T
    biases[scored] = logs.mean(axis=0) - weights[scored] @ middle
    return Head(weights.astype(np.float32), biases.astype(np.float32))


def _within(values: Float64s, speakers: NDArray[np.int64]) -> Float64s | None:
    """Return the covariance ``(d, d)`` within speakers that have two values or more; None where too few have."""
    chosen, means, at = _means(values, speakers)
    if len(means) < _LEAST_SPEAKERS:
        return None
    rest = values[chosen] - means[at]
    return np.asarray(rest.T @ rest / max(len(rest) - len(means), 1))


def _nuisance(standard: Float64s, speakers: NDArray[np.int64]) -> Float64s | None:
    """Return orthonormal directions ``(dim, m)`` in which speakers differ; None where too few are known."""
    _, means, _ = _means(standard, speakers)
    if len(means) < _LEAST_SPEAKERS:
        return None
    _, sizes, rows = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    explained = np.cumsum(sizes**2) / max(float((sizes**2).sum()), 1e-30)
    count = min(int(np.searchsorted(explained, _REMOVED)) + 1, _MOST_REMOVED, len(means) - 1, standard.shape[1] // 4)
    return np.asarray(rows[:count].T)


def _means(values: Float64s, speakers: NDArray[np.int64]) -> tuple[NDArray[np.bool_], Float64s, NDArray[np.intp]]:
    """Return which values are of a speaker with two or more, the means ``(v, d)`` of those, and each value's index."""
    _, of, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    of = of.reshape(-1)
    chosen = counts[of] > 1
    _, at = np.unique(of[chosen], return_inverse=True)
    at = at.reshape(-1)
    means = np.zeros((int(at.max(initial=-1)) + 1, values.shape[1]))
    np.add.at(means, at, values[chosen])
    return chosen, means / np.maximum(np.bincount(at, minlength=len(means)), 1)[:, None], at


def _whitener(covariance: Float64s) -> Float64s:
    dim = len(covariance)
    even = max(float(np.trace(covariance)) / dim, 1e-30) * np.eye(dim)
    values, directions = np.linalg.eigh((1 - _SHRINKAGE) * covariance + _SHRINKAGE * even)
    return np.asarray(directions / np.sqrt(values) @ directions.T)
