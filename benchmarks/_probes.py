"""Linear probes: how well a classifier predicts the speaker, or the sentence, from vectors.

The leak measures what is near, a probe what the vectors contain at all. The classifier is ridge regression on one-hot
labels (Hastie, Tibshirani, Friedman: The Elements of Statistical Learning, 2nd ed., 4.2), in closed form; its penalty
is the one with the least leave-one-out error on the training folds (ibid., 7.10). Accuracy is the mean of the recalls
of all classes, so that chance is one over their number, however many items each has.

Clips of one sentence resemble each other, so a speaker is predicted from sentences that training did not have, and a
sentence from speakers that it did not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation import splits
from e2vsearch.analysis.evaluation.adaptation import Adapt
from e2vsearch.analysis.evaluation.metrics import DRAWS, measure
from e2vsearch.analysis.evaluation.splits import Labels
from e2vsearch.analysis.evaluation.types import Leak, TripletKind
from e2vsearch.analysis.evaluation.yardstick import EmbeddedClips
from e2vsearch.errors import TooFewExamples
from e2vsearch.vectors.exact import Float64s

FOLDS = 5

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""As multiples of the mean variance along a principal direction."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The accuracy of a linear classifier, each class counting the same; see `probe`."""

    accuracy: float
    chance: float
    classes: int
    n: int  # items


@dataclass(frozen=True, slots=True)
class NuisanceFigures:
    """How well vectors predict speaker and sentence; None where labels do not suffice."""

    leak: Leak | None  # of the speaker
    triplets: Mapping[TripletKind, float]  # accuracy; chance is 0.5
    voice: Probe | None  # the speaker, on sentences that training did not have
    sentence: Probe | None  # on speakers that training did not have


def nuisance_figures(clips: EmbeddedClips, adapt: Adapt, *, triplets: int = DRAWS, seed: int = 0) -> NuisanceFigures:
    """Return what vectors of clean clips, adapted to all of these, contain of speaker and sentence.

    Args:
        clips: without texts, there are neither a sentence probe nor triplets.
        adapt: as for `rows`; `adaptation.raw` for the encoder's own vectors.
        triplets: of each kind.
        seed: of triplets and folds.

    Raises:
        TooFewExamples: fewer than two emotions.
    """
    vectors = clips.vectors["clean"]
    made = adapt(vectors).apply(vectors)
    found = measure(
        made, clips.emotions, clips.speakers, clips.texts, seed, recordings=clips.recordings, draws=triplets
    )
    texts = np.full(len(made), "") if clips.texts is None else clips.texts
    voiced, both = splits.known(clips.speakers), splits.known(clips.speakers) & splits.known(texts)
    probed, groups = (both, texts[both]) if both.any() else (voiced, None)
    return NuisanceFigures(
        leak=found.same_speaker,
        triplets={kind: each.accuracy for kind, each in found.triplets.items()},
        voice=_probe(made[probed], clips.speakers[probed], groups, seed),
        sentence=_probe(made[both], texts[both], clips.speakers[both], seed),
    )


def probe(vectors: NDArray[np.floating], labels: Labels, groups: Labels | None = None, seed: int = 0) -> Probe:
    """Return how well labels are predicted from vectors, cross-validated.

    Args:
        vectors: ``(n, dim)``; each number is scaled to variance one, so that faint directions count as well.
        labels: ``(n,)``, to be predicted.
        groups: ``(n,)``, never on both sides of a fold; None: folds of single items.
        seed: of the folds.

    Raises:
        TooFewExamples: fewer than two labels, or two groups.
    """
    names, truth = np.unique(labels, return_inverse=True)
    truth = truth.reshape(-1)
    grouped = np.arange(len(truth)) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    count = int(grouped.max(initial=-1)) + 1
    if names.size < 2 or count < 2:
        raise TooFewExamples(f"a probe needs two labels and two groups or more, not {names.size} and {count}")
    fold = np.random.default_rng(seed).permutation(count)[grouped] % min(FOLDS, count)
    scaled = _scaled(np.asarray(vectors, np.float64))
    predicted = np.full(len(truth), -1)
    for held_out in range(min(FOLDS, count)):
        test = fold == held_out
        predicted[test] = _classified(scaled[~test], truth[~test], names.size, scaled[test])
    recalls = [float((predicted[truth == at] == at).mean()) for at in range(names.size)]
    return Probe(float(np.mean(recalls)), 1 / names.size, names.size, len(truth))


def _probe(vectors: NDArray[np.float32], labels: Labels, groups: Labels | None, seed: int) -> Probe | None:
    """Return the probe, None where labels do not suffice."""
    try:
        return probe(vectors, labels, groups, seed)
    except TooFewExamples:
        return None


def _scaled(vectors: Float64s) -> Float64s:
    spread = vectors.std(axis=0)
    scaled: Float64s = (vectors - vectors.mean(axis=0)) / np.where(spread > 1e-12, spread, 1.0)
    return scaled


def _classified(known: Float64s, truth: NDArray[np.int64], classes: int, unknown: Float64s) -> NDArray[np.int64]:
    """Return the class of each row of `unknown` by ridge regression on `known`, its penalty by leave-one-out."""
    centre = known.mean(axis=0)
    u, sizes, directions = np.linalg.svd(known - centre, full_matrices=False)
    wanted = np.eye(classes)[truth]
    middle = wanted.mean(axis=0)
    inside = u.T @ (wanted - middle)
    power = sizes**2
    best, weights = np.inf, np.zeros((len(sizes), classes))
    for penalty in PENALTIES:
        shrunk = power / (power + penalty * power.mean())
        fitted = middle + (u * shrunk) @ inside
        leverage = (u**2) @ shrunk + 1 / len(known)  # and the mean's
        error = float((((wanted - fitted) / np.maximum(1 - leverage, 1e-9)[:, None]) ** 2).mean())
        if error < best:
            best, weights = error, (shrunk / np.where(sizes > 0, sizes, 1.0))[:, None] * inside
    return np.asarray(((unknown - centre) @ directions.T @ weights + middle).argmax(axis=1), np.int64)
