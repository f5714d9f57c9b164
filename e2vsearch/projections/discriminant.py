"""A projection learned from labelled moments: shrunk discriminants beside the plain view. Knows arrays and labels.

The emotion's part is Fisher's discriminant (Rao 1948), with the scatter within an emotion taken across all speakers
and sentences, so that what tells voices and words apart is what it divides by. It is shrunk hard towards a multiple
of the identity (Friedman 1989): with little shrinkage it learns the corpus, not emotion.

How hard, and how much of the plain view stays beside it, is chosen by cross-validation in which no speaker and, where
it is known what is said, no sentence is on both sides, by mean average precision with the query's own speaker left out.

Fitted on CREMA-D, tested on EMO-DB: pooled frames of Whisper-tiny.en's first blocks go from .408 to .520 mAP, log-mel
statistics from .337 to .396. An encoder whose training has seen the labelled files gains nothing by them: the first
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
from e2vsearch.projections.linear import LinearProjection, spread
from e2vsearch.vectors.exact import Float64s, unit

Codes = NDArray[np.int64]

SHRINKAGES = (0.3, 0.6, 0.9)

SHARES = (0.1, 0.3, 0.5, 0.7)

WITHIN = 0.01
"""Settings this near to the best mAP count as good, and the one with the least of the plain view is taken: it leaks the
least of voices."""

_FOLDS = 5

_LEAST_SPEAKERS = 4  # two folds, in each a query and somebody else to be found

_LEAST_TEXTS = 4

_LEAST_EXAMPLES = 20

_QUERIES = 500  # a fold: more changes mAP by less than .005

_GALLERY = 4000


@dataclass(frozen=True, slots=True)
class Chosen:
    """A fitted projection, and how well its settings do on speakers that were held out."""

    projection: LinearProjection
    shrinkage: float
    folds: int
    map: float  # held-out speakers only, the query's own left out
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
    """Fit a projection, and judge it.

    Args:
        vectors: ``(n, dim)``, of any length.
        emotions: of each.
        speakers: of each; where that is not known, what is surely one voice, such as the recording.
        texts: what is said in each: any name of the sentence; None where that is not known of all.
        name: what it is to be called.
        centre: ``(m, dim)`` vectors of the collection that will be searched: its own mean is the centre, its own
            deviations the scale of the plain view. Without it, those of `vectors`.
        share: of nuance; chosen if None.
        rivals: other projections, judged on the same queries.
        seed: of the folds.

    Raises:
        TooFewExamples: fewer than 20 vectors, four speakers, or two emotions that several speakers show.
    """
    units, truth, voices = unit(vectors), _codes(emotions), _codes(speakers)
    _enough(truth, voices)
    folds = _split(voices, None if texts is None else _codes(texts), seed)
    shares = SHARES if share is None else (share,)
    scores: dict[tuple[float, float], list[float]] = {(a, b): [] for a in SHRINKAGES for b in shares}
    raw: list[float] = []
    old: dict[str, list[float]] = {each: [] for each in rivals or {}}
    weights: list[int] = []
    for train, test in folds:
        queries = mean_average_precision(units[test], truth[test], voices[test], seed)
        if queries is None or np.unique(truth[train]).size < 2 or train.size < _LEAST_EXAMPLES // 2:
            continue
        raw.append(queries[0])
        weights.append(queries[1])
        for rival, projection in (rivals or {}).items():
            old[rival].append(_map(projection.apply(vectors[test]), truth[test], voices[test], seed))
        # the part of the held-out speakers is searched as a collection of its own would be, around its own centre
        plain = spread(units[test] - units[test].mean(axis=0))
        middle = units[test].mean(axis=0)
        for shrinkage, view in zip(SHRINKAGES, discriminants(units[train], truth[train], SHRINKAGES), strict=True):
            for kept in shares:
                made = _parts(name, middle, view, plain, kept)
                scores[shrinkage, kept].append(_map(made.apply(units[test]), truth[test], voices[test], seed))
    if not raw:
        raise TooFewExamples("no emotion is shown by two speakers of a fold - label clips of more speakers")
    means = {setting: float(np.average(found, weights=weights)) for setting, found in scores.items()}
    best = max(means.values())
    shrinkage, kept = min((each for each in means if means[each] >= best - WITHIN), key=lambda each: (each[1], each[0]))
    around = units if centre is None else unit(centre)
    middle = around.mean(axis=0)
    (view,) = discriminants(units, truth, (shrinkage,))
    made = _parts(name, middle, view, spread(around - middle), kept)
    map_of = {each: float(np.average(found, weights=weights)) for each, found in old.items()}
    map_raw = float(np.average(raw, weights=weights))
    return Chosen(made, shrinkage, len(raw), means[shrinkage, kept], map_raw, map_of)


def discriminants(units: Float64s, truth: Codes, shrinkages: Sequence[float]) -> list[Float64s]:
    """For each shrinkage the directions ``(dim, emotions - 1)`` in which emotions differ most for what else differs.

    Each is scaled so that the scatter within an emotion is one: a cosine there is Fisher's, not one that the largest
    direction decides. Every emotion counts the same, however many examples it has.
    """
    dim = units.shape[1]
    kinds = np.unique(truth)
    means = np.stack([units[truth == kind].mean(axis=0) for kind in kinds])
    within = np.zeros((dim, dim))
    for kind, mean in zip(kinds, means, strict=True):
        away = units[truth == kind] - mean
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
    units: NDArray[np.floating], truth: Codes, voices: Codes, seed: int
) -> tuple[float, int] | None:
    """Mean average precision by inner product, the query's own speaker left out, and how many queries there were.

    None where no emotion is shown by two speakers. Of many, 500 queries and 4,000 to be found are drawn.
    """
    rng = np.random.default_rng(seed)
    if len(units) > _GALLERY:
        some = np.sort(rng.choice(len(units), _GALLERY, replace=False))
        units, truth, voices = units[some], truth[some], voices[some]
    asked = np.arange(len(units)) if len(units) <= _QUERIES else rng.choice(len(units), _QUERIES, replace=False)
    scores = units[asked] @ units.T
    scores[voices[asked][:, None] == voices] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    right = (truth[order] == truth[asked][:, None]) & np.isfinite(np.take_along_axis(scores, order, 1))
    answerable = right.any(axis=1)
    if not answerable.any():
        return None
    right = right[answerable]
    precision = right.cumsum(axis=1) / np.arange(1, right.shape[1] + 1)
    average = (precision * right).sum(axis=1) / right.sum(axis=1)
    return float(average.mean()), int(answerable.sum())


def _map(vectors: NDArray[np.floating], truth: Codes, voices: Codes, seed: int) -> float:
    found = mean_average_precision(unit(vectors), truth, voices, seed)
    assert found is not None  # the same labels as the raw vectors', which had queries
    return found[0]


def _parts(name: str, centre: Float64s, view: Float64s, nuance: NDArray[np.float32], share: float) -> LinearProjection:
    return LinearProjection("fitted", name, centre.astype(np.float32), view.astype(np.float32), nuance, share)


def _codes(labels: Sequence[Hashable]) -> Codes:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(each, len(numbers)) for each in labels], np.int64)


def _split(voices: Codes, texts: Codes | None, seed: int) -> list[tuple[Codes, Codes]]:
    """Training and test items of each fold, no speaker in both, nor a sentence if there are four or more.

    Three or more speakers are held out at once where there are enough, since each query needs others to find. Of the
    sentences one half trains and the other tests, in turn.
    """
    rng = np.random.default_rng(seed)
    everyone = np.unique(voices)
    parts = np.array_split(rng.permutation(everyone), max(2, min(_FOLDS, everyone.size // 3)))
    sentences = np.empty(0, np.int64) if texts is None else rng.permutation(np.unique(texts))
    folds = []
    for number, held in enumerate(parts):
        test, train = np.isin(voices, held), ~np.isin(voices, held)
        if texts is not None and sentences.size >= _LEAST_TEXTS:
            tested = np.isin(texts, sentences[number % 2 :: 2])
            test, train = test & tested, train & ~tested
        folds.append((np.flatnonzero(train), np.flatnonzero(test)))
    return folds


def _enough(truth: Codes, voices: Codes) -> None:
    if truth.size < _LEAST_EXAMPLES or np.unique(voices).size < _LEAST_SPEAKERS:
        raise TooFewExamples(
            f"{truth.size} labelled moments of {np.unique(voices).size} speakers are too few to fit a projection - "
            f"label {_LEAST_EXAMPLES} or more, of {_LEAST_SPEAKERS} speakers or more"
        )
    shown = [np.unique(voices[truth == kind]).size for kind in np.unique(truth)]
    if sum(count > 1 for count in shown) < 2:
        raise TooFewExamples("fewer than two emotions are shown by several speakers - label more clips of each")
