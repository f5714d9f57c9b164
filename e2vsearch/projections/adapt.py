"""The projection of an encoder's head, adapted to a collection without labels; and which one a collection adopts.

Cosines of emotion2vec's own vectors follow voice and words (arXiv 2604.26347), and its linear head does not: `head`
makes a projection of that. Here the head is adapted to the collection first, by one step of expectation-maximisation
from its own probabilities (arXiv 2509.25495). Each class is a Gaussian, all with one covariance, in the collection's
principal directions and the head's row space; the linear discriminants that follow are averaged with the head's
weights. Four more steps bring .04 mAP in one space and cost .02 in another, and a little more wherever one emotion
prevails: the largest differences are speakers there.

Few segments do not show a collection's scatter: the head is adapted from `FROM` segments on, and below
`e2vsearch.projections.head.LEAST_SEGMENTS` the projection is the head's centred log posteriors, which are linear in the
vector.

Pooled frames of Whisper-tiny.en stand for emotion2vec in `benchmarks/adaptation.py`, which has the figures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import AnalysisError, SpaceMismatch
from e2vsearch.projections import head, network
from e2vsearch.projections.base import RAW, Projection, softmax
from e2vsearch.projections.linear import LinearProjection
from e2vsearch.projections.npz import pack, read
from e2vsearch.types import Head
from e2vsearch.vectors.exact import Float64s, unit

KIND = "head"
NAME = KIND
"""Of the one that a collection adopts; one that a person stores under it is left as it is."""

MOST = 0.5
"""Share of the adapted weights beside the head's own, in a large collection."""

FROM = 200
"""Segments from which on a head is adapted at all: in n of them the adapted weights count ``MOST * (1 - FROM / n)``.
In 84 to 158 clips of EMO-DB the same step costs as often as it brings: -.03 to +.07 mAP."""

LEAST_PERPLEXITY = 4.5
"""Of the mean class probabilities of a collection, for its head to be adapted."""

RESTING = 10.0
"""Segments that weigh as much as the point at which the head's classes are equally likely, when a few are centred: .525
mAP with one segment of EMO-DB, .452 centred on itself alone, and no less with 3, 10 or 19."""

_DIRECTIONS = 40  # principal ones, in which classes are estimated
_SHARPNESS = 2.0  # of the classes' probabilities, in deviations of the logits
_VARIED = 0.85  # of a collection's perplexity: from there on a speaker's mean is the voice, not an emotion
_MEMBERS = ("head.weights", "head.biases")


def default(
    encoder_shipped: bytes | None,
    encoder_head: Head | None,
    vectors: NDArray[np.floating[Any]],
    speakers: NDArray[np.int64],
) -> Projection:
    """Return the projection that a collection of these vectors adopts by itself.

    Args:
        encoder_shipped: of `Encoder.projection`.
        encoder_head: of `Encoder.head`.
        vectors: ``(n, dim)``, the encoder's; n may be 0.
        speakers: ``(n,)``, who speaks; a channel of a recording counts as one.

    Raises:
        AnalysisError: the shipped projection cannot be read.
        SpaceMismatch: vectors of another length than it takes.
    """
    if encoder_shipped is not None:
        ships = network.unpack(encoder_shipped)
        return ships if len(vectors) < head.LEAST_SEGMENTS else ships.centred(vectors)
    return RAW if encoder_head is None else adapt_head(encoder_head, vectors, speakers)


def without_collection(encoder_shipped: bytes | None, encoder_head: Head | None, dim: int) -> Projection:
    """Return the projection for clips that belong to no collection: `default` of no vectors.

    Raises:
        AnalysisError: the shipped projection cannot be read.
    """
    return default(encoder_shipped, encoder_head, np.zeros((0, dim)), np.zeros(0, np.int64))


def adapt_head(
    of: Head,
    vectors: NDArray[np.floating[Any]],
    speakers: NDArray[np.int64],
    *,
    name: str = NAME,
    share: float = head.SHARE,
) -> LinearProjection:
    """Return the projection of a head adapted to a collection.

    Args:
        of: the head.
        vectors: ``(n, dim)``, the encoder's; those of zeros count for nothing, and n may be 0.
        speakers: ``(n,)``, who speaks; a channel of a recording counts as one.
        name: of the projection.
        share: of nuance, from 20 segments on.

    Raises:
        SpaceMismatch: the head takes vectors of another length, or has fewer than two classes.
    """
    known = np.any(vectors, axis=1)
    rows, of_speaker = np.asarray(vectors, np.float64)[known], speakers[known]
    fits = of.weights.shape == (len(of.biases), vectors.shape[1]) and of.biases.ndim == 1 and len(of.biases) > 1
    if not fits:
        raise SpaceMismatch(
            f"a head of shapes {of.weights.shape} and {of.biases.shape} does not fit vectors of {vectors.shape[1]} "
            "numbers - take the encoder that the collection was made with"
        )
    if len(rows) < head.LEAST_SEGMENTS:
        return log_posteriors(of, rows, name=name)
    varied = _varied(of_speaker, posteriors(of, rows))
    return head.head_projection(rows, of_speaker, adapt_weights(of, rows), name=name, share=share, varied=varied)


def log_posteriors(of: Head, vectors: NDArray[np.floating[Any]], *, name: str = NAME) -> LinearProjection:
    """Return the projection to the head's logits less their mean over classes, centred; without nuance.

    The softmax's logarithm less its mean over classes is (W - mean W) x + b - mean b. A few segments are centred
    between their mean and the point at which all classes are equally likely.

    Args:
        of: the head.
        vectors: ``(n, dim)``, the encoder's; n may be 0.
        name: of the projection.

    Raises:
        SpaceMismatch: the head has fewer than two classes.
    """
    rows, sizes = _row_space(of.weights)
    centre = np.zeros(of.weights.shape[1])
    if len(vectors):
        units, weight = unit(vectors), len(vectors) / (len(vectors) + RESTING)
        length = float(np.linalg.norm(vectors, axis=1).mean())
        even = -np.linalg.pinv(_centred(of.weights), rcond=1e-6) @ (of.biases - of.biases.mean()) / length
        centre = weight * units.mean(axis=0) + (1.0 - weight) * even
    view = (rows.T * sizes).astype(np.float32)
    nothing = np.zeros((len(view), 0), np.float32)
    return LinearProjection(KIND, name, centre.astype(np.float32), view, nothing, 0.0)


def adapt_weights(of: Head, vectors: NDArray[np.floating[Any]], rounds: int = 1) -> Float64s:
    """Return a head's weights ``(labels, dim)`` after one step of adaptation, each class's about as long as before.

    They stay the same where `can_adapt` is False.

    Args:
        of: the head.
        vectors: ``(n, dim)``, the encoder's.
        rounds: of expectation and maximisation; collections take one, see `benchmarks/adaptation.py`.
    """
    weights = _centred(of.weights)
    if not can_adapt(of, vectors):
        return weights
    part = MOST * (1.0 - FROM / len(vectors))
    units = unit(vectors)
    away = units - units.mean(axis=0)
    basis = _basis(away, weights)
    reduced, prior = away @ basis, posteriors(of, vectors)
    means, linear = _discriminants(reduced, prior)
    for _ in range(rounds):
        # the classes' densities times the head's own probabilities, which anchor every round
        logits = reduced @ linear - 0.5 * (means.T * linear).sum(axis=0) + np.log(np.maximum(prior, 1e-30))
        means, linear = _discriminants(reduced, softmax(logits))
    weights_found = (linear - linear.mean(axis=1, keepdims=True)).T @ basis.T
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    return np.asarray(lengths * ((1 - part) * unit(weights) + part * unit(weights_found)))


def can_adapt(of: Head, vectors: NDArray[np.floating[Any]]) -> bool:
    """Return whether `adapt_weights` changes a head's weights.

    It does with more than `FROM` segments whose mean class probabilities have a perplexity of `LEAST_PERPLEXITY`.
    """
    if len(vectors) <= FROM:
        return False
    logits = np.asarray(vectors, np.float64) @ _centred(of.weights).T + (of.biases - of.biases.mean())
    return _perplexity(softmax(logits)) >= LEAST_PERPLEXITY


def posteriors(of: Head, vectors: NDArray[np.floating[Any]]) -> Float64s:
    """Return probabilities of a head's classes in a collection, ``(n, labels)``, whatever prior it was trained with.

    Logits are centred on the collection, so that no bias counts, and scaled by their deviation over all classes: how
    far apart they lie differs between a head's corpora and telephone calls.
    """
    units = unit(vectors)
    logits = (units - units.mean(axis=0)) @ _centred(of.weights).T
    return softmax(_SHARPNESS * logits / max(float(logits.std()), 1e-30))


def _discriminants(reduced: Float64s, posteriors: Float64s) -> tuple[Float64s, Float64s]:
    """Return means ``(labels, m)`` of Gaussian classes with one covariance, and their discriminants ``(m, labels)``.

    The covariance is shrunk the more, the fewer segments there are: with 535 by a twelfth. By half, as within speakers,
    100 segments would turn the head farther towards the directions in which speakers differ.
    """
    counts = posteriors.sum(axis=0)
    means = posteriors.T @ reduced / np.maximum(counts, 1e-9)[:, None]
    within = (reduced.T @ reduced - (means * counts[:, None]).T @ means) / len(reduced)
    shrunk = len(within) / (len(within) + len(reduced))
    even = max(float(np.trace(within)) / len(within), 1e-30) * np.eye(len(within))
    return means, np.linalg.solve((1 - shrunk) * within + shrunk * even, means.T)


def pack_with_head(made: LinearProjection, of: Head) -> bytes:
    """Return a projection as bytes with its head beside it, to adapt again without the encoder.

    `linear.unpack` takes them as well.
    """
    return pack({**made.members, **dict(zip(_MEMBERS, (of.weights, of.biases), strict=True))})


def stored_head(data: bytes) -> Head:
    """Return the head in the bytes of `pack_with_head`.

    Raises:
        AnalysisError: there is none, or it is damaged.
    """
    try:
        weights, biases = read(data, _MEMBERS)
    except ValueError as error:
        raise AnalysisError(
            f"projection {NAME!r} is damaged - ingesting anything with its encoder mends it; "
            "to do without: e2vsearch projection use raw"
        ) from error
    return Head(weights, biases)


def _varied(speakers: NDArray[np.int64], posteriors: Float64s) -> NDArray[np.bool_]:
    """Return which segments ``(n,)`` are of speakers with about as many emotions as the collection has.

    The mean of such a speaker is the voice. That of another may be an emotion: a caller calls once.
    """
    _, of, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), posteriors.shape[1]))
    np.add.at(means, of.reshape(-1), posteriors)
    means /= counts[:, None]
    perplexities = np.array([_perplexity(each[None]) for each in means])
    return np.asarray((perplexities >= _VARIED * _perplexity(posteriors))[of.reshape(-1)])


def _perplexity(posteriors: Float64s) -> float:
    """Return the exponential of the entropy of mean class probabilities ``(n, labels)``."""
    mean = posteriors.mean(axis=0)
    return float(np.exp(-(mean * np.log(np.maximum(mean, 1e-30))).sum()))


def _basis(away: Float64s, weights: Float64s) -> Float64s:
    """Return orthonormal directions ``(dim, m)``: the collection's principal ones and the head's row space."""
    values, directions = np.linalg.eigh(away.T @ away)
    kept = values[-_DIRECTIONS:] > 1e-9 * max(float(values[-1]), 1e-30)
    spanned = np.concatenate([directions[:, -_DIRECTIONS:][:, kept], unit(weights).T], axis=1)
    left, sizes, _ = np.linalg.svd(spanned, full_matrices=False)
    return np.asarray(left[:, sizes > 1e-6 * sizes[0]])


def _row_space(weights: NDArray[np.floating[Any]]) -> tuple[Float64s, Float64s]:
    """Return orthonormal directions ``(m, dim)`` of a head's row space, and their singular values."""
    _, sizes, rows = np.linalg.svd(_centred(weights), full_matrices=False)
    kept = sizes > 1e-6 * sizes[0]
    return rows[kept], sizes[kept]


def _centred(weights: NDArray[np.floating[Any]]) -> Float64s:
    wide = np.asarray(weights, np.float64)
    return np.asarray(wide - wide.mean(axis=0))
