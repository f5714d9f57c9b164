"""The projection that a collection adopts by itself: what its encoder ships, else its head's. Arrays alone, no labels.

Cosines of emotion2vec's own vectors follow voice and words (arXiv 2604.26347), and its linear head does not: `head`
makes a projection of that. Here the head is adapted to the collection first, by one step of expectation-maximisation
from its own probabilities (arXiv 2509.25495). Each class is taken for a Gaussian, all with one covariance, in the
directions in which the collection varies most and those that the head reads; the linear discriminants that follow are
averaged with the head's weights. Four more steps bring .04 mAP in one space and cost .02 in another, and a little more
wherever one emotion prevails: the largest differences are voices there.

Few segments do not tell how a collection scatters: the head is adapted from `FROM` segments on, and below
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
"""Of the one that a collection adopts; people may store another one under it, which is then left as it is."""

MOST = 0.5
"""Of the adapted weights, beside the head's own, in a large collection."""

FROM = 200
"""Segments from which on a head is adapted at all: in n of them the adapted weights count ``MOST * (1 - FROM / n)``.
In 84 to 158 clips of EMO-DB the same step costs as often as it brings: -.03 to +.07 mAP."""

LEAST_MOODS = 4.5
"""Classes over which a collection must be spread, as the exponential of an entropy, for its head to be adapted."""

RESTING = 10.0
"""Segments that weigh as much as the point at which the head's classes are equally likely, when a few are centred: .525
mAP with one segment of EMO-DB, .452 centred on itself alone, and no less with 3, 10 or 19."""

_DIRECTIONS = 40  # principal ones, in which classes are estimated
_SHARPNESS = 2.0  # of the classes' probabilities, in deviations of the logits
_VARIED = 0.85  # of a collection's moods: with as many, what a voice keeps throughout is no mood
_MEMBERS = ("head.weights", "head.biases")


def default(
    encoder_shipped: bytes | None,
    encoder_head: Head | None,
    vectors: NDArray[np.floating[Any]],
    voices: NDArray[np.int64],
) -> Projection:
    """What a collection of these vectors is searched through, unless another projection is put to use.

    Args:
        encoder_shipped: what `Encoder.projection` gives.
        encoder_head: what `Encoder.head` gives.
        vectors: ``(n, dim)`` of the collection, as the encoder made them; n may be 0.
        voices: ``(n,)``: which are surely of one voice and channel.

    Raises:
        AnalysisError: what ships cannot be read.
        SpaceMismatch: vectors of another length than it takes.
    """
    if encoder_shipped is not None:
        ships = network.unpack(encoder_shipped)
        return ships if len(vectors) < head.LEAST_SEGMENTS else ships.centred(vectors)
    return RAW if encoder_head is None else of_collection(encoder_head, vectors, voices)


def alone(encoder_shipped: bytes | None, encoder_head: Head | None, dim: int) -> Projection:
    """What clips that belong to no collection are compared through: `default` of no vectors.

    Raises:
        AnalysisError: what ships cannot be read.
    """
    return default(encoder_shipped, encoder_head, np.zeros((0, dim)), np.zeros(0, np.int64))


def of_collection(
    of: Head,
    vectors: NDArray[np.floating[Any]],
    voices: NDArray[np.int64],
    *,
    name: str = NAME,
    share: float = head.SHARE,
) -> LinearProjection:
    """The projection that a head makes in a collection.

    Args:
        of: the head.
        vectors: ``(n, dim)`` as the encoder made them; those of zeros count for nothing, and n may be 0.
        voices: ``(n,)``: which are surely of one voice and channel.
        name: of the projection.
        share: of nuance, where there are segments enough to tell what that is.

    Raises:
        SpaceMismatch: the head takes vectors of another length, or has fewer than two classes.
    """
    known = np.any(vectors, axis=1)
    rows, of_voice = np.asarray(vectors, np.float64)[known], voices[known]
    fits = of.weights.shape == (len(of.biases), vectors.shape[1]) and of.biases.ndim == 1 and len(of.biases) > 1
    if not fits:
        raise SpaceMismatch(
            f"a head of shapes {of.weights.shape} and {of.biases.shape} does not fit vectors of {vectors.shape[1]} "
            "numbers - take the encoder that the collection was made with"
        )
    if len(rows) < head.LEAST_SEGMENTS:
        return log_posteriors(of, rows, name=name)
    varied = _varied(of_voice, posteriors(of, rows))
    return head.of_head(rows, of_voice, adapted(of, rows), name=name, share=share, varied=varied)


def log_posteriors(of: Head, vectors: NDArray[np.floating[Any]], *, name: str = NAME) -> LinearProjection:
    """The head's logits less their mean over classes, about the collection's centre; no nuance.

    The softmax's logarithm less its mean over classes is (W - mean W) x + b - mean b. A few segments say little of
    where a collection lies, so they are centred between their mean and where all classes are equally likely.

    Args:
        of: the head.
        vectors: ``(n, dim)`` as the encoder made them, n may be 0.
        name: of the projection.

    Raises:
        SpaceMismatch: the head has fewer than two classes.
    """
    rows, sizes = _read(of.weights)
    centre = np.zeros(of.weights.shape[1])
    if len(vectors):
        units, told = unit(vectors), len(vectors) / (len(vectors) + RESTING)
        length = float(np.linalg.norm(vectors, axis=1).mean())
        even = -np.linalg.pinv(_centred(of.weights), rcond=1e-6) @ (of.biases - of.biases.mean()) / length
        centre = told * units.mean(axis=0) + (1.0 - told) * even
    view = (rows.T * sizes).astype(np.float32)
    nothing = np.zeros((len(view), 0), np.float32)
    return LinearProjection(KIND, name, centre.astype(np.float32), view, nothing, 0.0)


def adapted(of: Head, vectors: NDArray[np.floating[Any]], rounds: int = 1) -> Float64s:
    """A head's weights ``(labels, dim)`` after one step of adaptation, each class's about as long as it was.

    They are as they were in a collection that is small, or that is of few emotions by the head's own probabilities.

    Args:
        of: the head.
        vectors: ``(n, dim)`` as the encoder made them.
        rounds: of expectation and maximisation; one is what collections take, see `benchmarks/adaptation.py`.
    """
    weights = _centred(of.weights)
    if not adapts(of, vectors):
        return weights
    part = MOST * (1.0 - FROM / len(vectors))
    units = unit(vectors)
    away = units - units.mean(axis=0)
    basis = _basis(away, weights)
    seen, sure = away @ basis, posteriors(of, vectors)
    means, linear = _discriminants(seen, sure)
    for _ in range(rounds):
        # the classes' densities times the head's own probabilities, which anchor every round
        told = softmax(seen @ linear - 0.5 * (means.T * linear).sum(axis=0) + np.log(np.maximum(sure, 1e-30)))
        means, linear = _discriminants(seen, told)
    found = (linear - linear.mean(axis=1, keepdims=True)).T @ basis.T
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    return np.asarray(lengths * ((1 - part) * unit(weights) + part * unit(found)))


def adapts(of: Head, vectors: NDArray[np.floating[Any]]) -> bool:
    """Whether `adapted` changes a head's weights.

    It does in more than `FROM` segments that are of `LEAST_MOODS` or more classes by the head's own probabilities.
    """
    if len(vectors) <= FROM:
        return False
    logits = np.asarray(vectors, np.float64) @ _centred(of.weights).T + (of.biases - of.biases.mean())
    return _moods(softmax(logits)) >= LEAST_MOODS


def posteriors(of: Head, vectors: NDArray[np.floating[Any]]) -> Float64s:
    """Probabilities of a head's classes in a collection, ``(n, labels)``, whatever their share is where it was trained.

    Its logits are centred on the collection, so that none of its biases counts, and scaled by their deviation over all
    classes: how far apart they lie differs between a head's corpora and a telephone's calls.
    """
    units = unit(vectors)
    logits = (units - units.mean(axis=0)) @ _centred(of.weights).T
    return softmax(_SHARPNESS * logits / max(float(logits.std()), 1e-30))


def _discriminants(seen: Float64s, sure: Float64s) -> tuple[Float64s, Float64s]:
    """Means ``(labels, m)`` of Gaussian classes with one covariance, and their linear discriminants ``(m, labels)``.

    The covariance is shrunk the more, the fewer segments there are beside its numbers: in 535 segments by a twelfth. By
    half, as within voices, 100 segments would turn the head farther towards where their voices differ.
    """
    counts = sure.sum(axis=0)
    means = sure.T @ seen / np.maximum(counts, 1e-9)[:, None]
    within = (seen.T @ seen - (means * counts[:, None]).T @ means) / len(seen)
    shrunk = len(within) / (len(within) + len(seen))
    even = max(float(np.trace(within)) / len(within), 1e-30) * np.eye(len(within))
    return means, np.linalg.solve((1 - shrunk) * within + shrunk * even, means.T)


def packed(made: LinearProjection, of: Head) -> bytes:
    """A projection with the head that it was made of beside it; `parts.unpack` takes it as well.

    The collection can be adapted to again without the encoder.
    """
    return pack({**made.members, **dict(zip(_MEMBERS, (of.weights, of.biases), strict=True))})


def kept_head(data: bytes) -> Head:
    """The head in what `packed` made.

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


def _varied(voices: NDArray[np.int64], sure: Float64s) -> NDArray[np.bool_]:
    """Which segments ``(n,)`` are of voices of about as many moods as the collection has.

    What such a voice keeps throughout is the voice. What another keeps may be its mood: a caller is heard once.
    """
    _, of, counts = np.unique(voices, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), sure.shape[1]))
    np.add.at(means, of.reshape(-1), sure)
    means /= counts[:, None]
    moods = np.array([_moods(each[None]) for each in means])
    return np.asarray((moods >= _VARIED * _moods(sure))[of.reshape(-1)])


def _moods(sure: Float64s) -> float:
    """How many classes probabilities ``(n, labels)`` are spread over: the exponential of their mean's entropy."""
    mean = sure.mean(axis=0)
    return float(np.exp(-(mean * np.log(np.maximum(mean, 1e-30))).sum()))


def _basis(away: Float64s, weights: Float64s) -> Float64s:
    """Orthonormal directions ``(dim, m)``: the principal ones of the collection, and what the head reads."""
    values, directions = np.linalg.eigh(away.T @ away)
    kept = values[-_DIRECTIONS:] > 1e-9 * max(float(values[-1]), 1e-30)
    spanned = np.concatenate([directions[:, -_DIRECTIONS:][:, kept], unit(weights).T], axis=1)
    left, sizes, _ = np.linalg.svd(spanned, full_matrices=False)
    return np.asarray(left[:, sizes > 1e-6 * sizes[0]])


def _read(weights: NDArray[np.floating[Any]]) -> tuple[Float64s, Float64s]:
    """Directions ``(m, dim)`` that a head reads, orthonormal, and how much each counts."""
    _, sizes, rows = np.linalg.svd(_centred(weights), full_matrices=False)
    kept = sizes > 1e-6 * sizes[0]
    return rows[kept], sizes[kept]


def _centred(weights: NDArray[np.floating[Any]]) -> Float64s:
    wide = np.asarray(weights, np.float64)
    return np.asarray(wide - wide.mean(axis=0))
