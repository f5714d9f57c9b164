"""A projection fitted to labelled segments: shrunk linear discriminants beside the nuance part.

The emotion part is Fisher's discriminant (Rao 1948), with the scatter within an emotion taken over all speakers and
sentences, so that it divides by what distinguishes these. It is shrunk hard towards a multiple of the identity
(Friedman 1989): with little shrinkage it learns the corpus, not emotion. scikit-learn's LDA shrinks the standardised
covariance of each class instead: cosines differ by up to .01, and it takes 4 to 26 times as long (1,500 x 1,024 and x
384).

Shrinkage, and the share of nuance, are chosen by cross-validation in which no speaker and, where texts are known, no
sentence is on both sides, by mean average precision without the query's own speaker.

Fitted on CREMA-D, tested on EMO-DB: pooled frames of Whisper-tiny.en's first blocks go from .408 to .520 mAP, log-mel
statistics from .337 to .396. An encoder that was trained on the labelled files gains nothing by them: the first
`light`, itself trained on CREMA-D, falls from .527 to .493 so, though on CREMA-D's held-out speakers it rises
from .66 to .70.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import TooFewExamples
from e2vsearch.projections.base import Projection
from e2vsearch.projections.linear import LinearProjection, nuance_map
from e2vsearch.vectors.exact import Float64s, unit

Codes = NDArray[np.int64]
SHRINKAGES = (0.3, 0.6, 0.9)
SHARES = (0.1, 0.3, 0.5, 0.7)
WITHIN = 0.01
"""Settings this near to the best mAP count as good, and the one with the least nuance is taken: it leaks speakers
least."""

_FOLDS = 5
_LEAST_SPEAKERS = 4  # two folds, in each a query and somebody else to be found
_LEAST_TEXTS = 4
_LEAST_EXAMPLES = 20
_QUERIES = 500  # of a fold: more change mAP by less than .005
_GALLERY = 4000


@dataclass(frozen=True, slots=True)
class Chosen:
    """A fitted projection, and its settings' mAP on held-out speakers."""

    projection: LinearProjection
    shrinkage: float
    folds: int
    map: float  # on held-out speakers, the query's own left out
    map_raw: float  # of the encoder's own vectors, on the same queries
    map_of: Mapping[str, float]  # of each rival, on the same queries


def fit(
    vectors: NDArray[np.floating],
    emotions: Sequence[Hashable],
    speakers: Sequence[Hashable],
    texts: Sequence[Hashable] | None = None,
    *,
    name: str = "fitted",
    centre: NDArray[np.floating] | None = None,
    share: float | None = None,
    rivals: Mapping[str, Projection] | None = None,
    seed: int = 0,
) -> Chosen:
    """Fit a projection, and measure it.

    Args:
        vectors: ``(n, dim)``, of any length.
        emotions: of each.
        speakers: of each; where unknown, the recording.
        texts: of each: any name of the sentence; None where not all are known.
        name: of the projection.
        centre: ``(m, dim)`` vectors of the collection to be searched, whose mean is the centre and whose deviations
            scale nuance; by default `vectors`.
        share: of nuance; chosen if None.
        rivals: other projections, measured on the same queries.
        seed: of the folds.

    Raises:
        TooFewExamples: fewer than 20 vectors, four speakers, or two emotions of several speakers.
    """
    units, labels, voices = unit(vectors), _codes(emotions), _codes(speakers)
    _check_size(labels, voices)
    folds = _split(voices, None if texts is None else _codes(texts), seed)
    shares = SHARES if share is None else (share,)
    scores: dict[tuple[float, float], list[float]] = {(a, b): [] for a in SHRINKAGES for b in shares}
    raw: list[float] = []
    old: dict[str, list[float]] = {each: [] for each in rivals or {}}
    weights: list[int] = []
    for train, test in folds:
        queries = mean_average_precision(units[test], labels[test], voices[test], seed)
        if queries is None or np.unique(labels[train]).size < 2 or train.size < _LEAST_EXAMPLES // 2:
            continue
        raw.append(queries[0])
        weights.append(queries[1])
        for rival, projection in (rivals or {}).items():
            old[rival].append(_map(projection.apply(vectors[test]), labels[test], voices[test], seed))
        # held-out speakers are searched as a collection of their own would be, around its centre
        middle = units[test].mean(axis=0)
        nuance = nuance_map(units[test] - middle)
        for shrinkage, view in zip(SHRINKAGES, discriminants(units[train], labels[train], SHRINKAGES), strict=True):
            for kept in shares:
                made = _projection(name, middle, view, nuance, kept)
                scores[shrinkage, kept].append(_map(made.apply(units[test]), labels[test], voices[test], seed))
    if not raw:
        raise TooFewExamples("no emotion has two speakers in a fold - label clips of more speakers")
    means = {setting: float(np.average(found, weights=weights)) for setting, found in scores.items()}
    best = max(means.values())
    shrinkage, kept = min((each for each in means if means[each] >= best - WITHIN), key=lambda each: (each[1], each[0]))
    around = units if centre is None else unit(centre)
    middle = around.mean(axis=0)
    (view,) = discriminants(units, labels, (shrinkage,))
    made = _projection(name, middle, view, nuance_map(around - middle), kept)
    map_of = {each: float(np.average(found, weights=weights)) for each, found in old.items()}
    map_raw = float(np.average(raw, weights=weights))
    return Chosen(made, shrinkage, len(raw), means[shrinkage, kept], map_raw, map_of)


def discriminants(units: Float64s, labels: Codes, shrinkages: Sequence[float]) -> list[Float64s]:
    """Return, for each shrinkage, the discriminants ``(dim, emotions - 1)``.

    Each is scaled so that the scatter within an emotion is one, so that no direction dominates a cosine. Every emotion
    counts the same, however many examples it has.
    """
    dim = units.shape[1]
    kinds = np.unique(labels)
    means = np.stack([units[labels == kind].mean(axis=0) for kind in kinds])
    within = np.zeros((dim, dim))
    for kind, mean in zip(kinds, means, strict=True):
        away = units[labels == kind] - mean
        within += away.T @ away / len(away) / len(kinds)
    apart = means - means.mean(axis=0)
    found = []
    for shrinkage in shrinkages:
        shrunk = (1 - shrinkage) * within + shrinkage * max(float(np.trace(within)) / dim, 1e-12) * np.eye(dim)
        lower = np.linalg.cholesky(shrunk)
        # between-emotion scatter has the rank of the few means: its directions come from them, not from dim x dim
        _, _, rows = np.linalg.svd(np.linalg.solve(lower, apart.T).T, full_matrices=False)
        found.append(np.linalg.solve(lower.T, rows[: len(kinds) - 1].T))
    return found


def mean_average_precision(
    units: NDArray[np.floating], labels: Codes, speakers: Codes, seed: int
) -> tuple[float, int] | None:
    """Return mean average precision by inner product without the query's own speaker, and the number of queries.

    None where no emotion has two speakers. Of many, 500 queries and a gallery of 4,000 are drawn.
    """
    rng = np.random.default_rng(seed)
    if len(units) > _GALLERY:
        some = np.sort(rng.choice(len(units), _GALLERY, replace=False))
        units, labels, speakers = units[some], labels[some], speakers[some]
    queries = np.arange(len(units)) if len(units) <= _QUERIES else rng.choice(len(units), _QUERIES, replace=False)
    scores = units[queries] @ units.T
    scores[speakers[queries][:, None] == speakers] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    relevant = (labels[order] == labels[queries][:, None]) & np.isfinite(np.take_along_axis(scores, order, 1))
    relevant = relevant[relevant.any(axis=1)]
    if not len(relevant):
        return None
    precision = relevant.cumsum(axis=1) / np.arange(1, relevant.shape[1] + 1)
    average = (precision * relevant).sum(axis=1) / relevant.sum(axis=1)
    return float(average.mean()), len(relevant)


def _map(vectors: NDArray[np.floating], labels: Codes, speakers: Codes, seed: int) -> float:
    found = mean_average_precision(unit(vectors), labels, speakers, seed)
    assert found is not None  # the same labels as the raw vectors', which had queries
    return found[0]


def _projection(
    name: str, centre: Float64s, view: Float64s, nuance: NDArray[np.float32], share: float
) -> LinearProjection:
    return LinearProjection("fitted", name, centre.astype(np.float32), view.astype(np.float32), nuance, share)


def _codes(names: Sequence[Hashable]) -> Codes:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(each, len(numbers)) for each in names], np.int64)


def _split(speakers: Codes, texts: Codes | None, seed: int) -> list[tuple[Codes, Codes]]:
    """Return training and test rows of each fold, no speaker in both, nor a sentence if there are four or more.

    Three or more speakers are held out at once where there are enough, since each query needs others to find. One half
    of the sentences trains and the other tests, in turn; scikit-learn's GroupKFold has no second group.
    """
    rng = np.random.default_rng(seed)
    everyone = np.unique(speakers)
    parts = np.array_split(rng.permutation(everyone), max(2, min(_FOLDS, everyone.size // 3)))
    sentences = np.empty(0, np.int64) if texts is None else rng.permutation(np.unique(texts))
    folds = []
    for number, held in enumerate(parts):
        test, train = np.isin(speakers, held), ~np.isin(speakers, held)
        if texts is not None and sentences.size >= _LEAST_TEXTS:
            tested = np.isin(texts, sentences[number % 2 :: 2])
            test, train = test & tested, train & ~tested
        folds.append((np.flatnonzero(train), np.flatnonzero(test)))
    return folds


def _check_size(labels: Codes, speakers: Codes) -> None:
    if labels.size < _LEAST_EXAMPLES or np.unique(speakers).size < _LEAST_SPEAKERS:
        raise TooFewExamples(
            f"{labels.size} labelled segments of {np.unique(speakers).size} speakers are too few to fit a projection - "
            f"label {_LEAST_EXAMPLES} or more, of {_LEAST_SPEAKERS} speakers or more"
        )
    counts = [np.unique(speakers[labels == label]).size for label in np.unique(labels)]
    if sum(count > 1 for count in counts) < 2:
        raise TooFewExamples("fewer than two emotions have several speakers - label more clips of each")
