"""Logistic regression whose strength and temperature are chosen by cross-validation.

Measured on EMO-DB and on 2,400 clips of CREMA-D, with
5, 20 and 50 examples a label and a fifth of the speakers held out (unweighted average recall, four draws each):

* vectors standardised after they are made unit: .73/.80/.85 on EMO-DB, against .68/.78/.84 as they are; the same on
  CREMA-D. One scale for all dimensions lies between the two.
* C by log loss rather than by recall: recall of 25 examples moves in steps of 4 %, and C chosen by it leaves
  probabilities far off (calibration error .28 before a temperature against .08).
* isotonic calibration fits a curve, for which tens of examples are too few. A temperature is one number and cannot
  reorder labels (Guo et al., On Calibration of Modern Neural Networks, 2017). With C chosen by log loss it
  comes out at .9 to 1.0, and the calibration error on held-out speakers at .11/.08/.06 and .07/.05/.04.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.labels.classifier import Model
from e2vsearch.errors import missing_extra
from e2vsearch.projections.base import softmax
from e2vsearch.vectors.exact import unit

STRENGTHS = tuple(float(c) for c in np.geomspace(1e-4, 1.5, 7))
"""C to choose from, for standardised vectors; of the corpora above it was 0.01 to 0.4, larger for fewer examples."""

DEFAULT_STRENGTH = 0.2
"""C where examples are too few to choose it: the mean of those chosen with 5 examples a label."""

_INNER_FOLDS = 3  # to choose C: 5 changed recall by .003 at most
_LEAST_DEVIATION = 0.1  # of the median: a number almost constant among few examples must not dominate others
_TEMPERATURES = np.geomspace(0.1, 10.0, 201)
_PRIOR_DEVIATION = 0.25  # of the log temperature, so that few separable examples do not make it tiny


@dataclass(frozen=True, slots=True)
class Fitted:
    """A classifier, and what was chosen for it."""

    model: Model
    strength: float  # C
    temperature: float
    folds: int  # of the cross-validation, 0: too few groups


@dataclass(frozen=True, slots=True)
class _Scaler:
    """Standardises unit vectors."""

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]

    def __call__(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = (vectors - self.mean) / self.spread
        return scaled


def fit(
    vectors: NDArray[np.float32], truth: Indices, groups: Indices, seed: int = 0, inner_folds: int = _INNER_FOLDS
) -> Fitted:
    """Train a classifier, every label weighing the same however many examples it has.

    Args:
        vectors: ``(n, dim)`` of any length.
        truth: ``(n,)`` labels as numbers from 0, each there at least once.
        groups: ``(n,)`` that may not be on both sides of a split, of `join`.
        seed: of the splits.
        inner_folds: of the cross-validation that chooses strength and temperature, at most.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    units = unit(vectors)
    splits = _split(truth, groups, seed, inner_folds)
    scaled = _scaling(units)
    with _one_thread():
        strength, temperature = _chosen(units, truth, splits) if splits else (DEFAULT_STRENGTH, 1.0)
        weights, bias = _path(scaled(units), truth, (strength,))[0]
    weights /= scaled.spread
    bias = bias - weights @ scaled.mean
    model = Model((weights / temperature).astype(np.float32), (bias / temperature).astype(np.float32))
    return Fitted(model, strength, temperature, len(splits))


def out_of_fold(
    vectors: NDArray[np.float32],
    truth: Indices,
    groups: Indices,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[NDArray[np.float64], int] | None:
    """Return out-of-fold probabilities ``(n, labels)`` and the number of folds; None where groups are too few.

    Nested: within each training part strength and temperature are chosen anew, so that no figure comes from examples
    that anything was chosen on.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    splits = _split(truth, groups, seed)
    if not splits:
        return None
    probabilities = np.zeros((truth.size, int(truth.max()) + 1))
    for number, (train, test) in enumerate(splits):
        if progress is not None:
            progress("measuring", number, len(splits))
        fitted = fit(vectors[train], truth[train], groups[train], seed)
        probabilities[test] = fitted.model.probabilities(vectors[test])
    return probabilities, len(splits)


def balanced(truth: Indices) -> NDArray[np.float64]:
    """Return weights of examples, summing to 1, with which every label counts the same."""
    shares = 1.0 / np.bincount(truth)[truth]
    scaled: NDArray[np.float64] = shares / shares.sum()
    return scaled


def _one_thread() -> AbstractContextManager[object]:
    """Limit BLAS to one thread: matrices this small are slower in two, and results would differ by machine."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[object] = threadpool_limits(1, "blas")
    return limits


def _split(truth: Indices, groups: Indices, seed: int, most: int | None = None) -> list[tuple[Indices, Indices]]:
    try:
        return split(truth, groups, seed) if most is None else split(truth, groups, seed, most)
    except ImportError as error:
        raise missing_extra("training a classifier", "labels") from error


def _chosen(units: NDArray[np.float64], truth: Indices, splits: list[tuple[Indices, Indices]]) -> tuple[float, float]:
    """Return C with the least log loss on held-out examples, and its temperature."""
    logits = np.zeros((len(STRENGTHS), truth.size, int(truth.max()) + 1))
    for train, test in splits:
        scaled = _scaling(units[train])
        for at, (weights, bias) in enumerate(_path(scaled(units[train]), truth[train], STRENGTHS)):
            logits[at, test] = scaled(units[test]) @ weights.T + bias
    best = int(np.argmin([_log_loss(each, truth) for each in logits]))
    penalty = np.log(_TEMPERATURES) ** 2 / (2 * _PRIOR_DEVIATION**2) / truth.size
    losses = [_log_loss(logits[best] / temperature, truth) for temperature in _TEMPERATURES]
    return STRENGTHS[best], float(_TEMPERATURES[np.argmin(losses + penalty)])


def _log_loss(logits: NDArray[np.float64], truth: Indices) -> float:
    likely = softmax(logits)[np.arange(truth.size), truth]
    return float(-(balanced(truth) * np.log(np.maximum(likely, 1e-12))).sum())


def _scaling(units: NDArray[np.float64]) -> _Scaler:
    spread = units.std(axis=0)
    least = max(_LEAST_DEVIATION * float(np.median(spread)), 1e-9)
    return _Scaler(units.mean(axis=0), np.maximum(spread, least))


def _path(
    scaled: NDArray[np.float64], truth: Indices, strengths: tuple[float, ...]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return weights ``(labels, dim)`` and bias ``(labels,)`` for each C, each fit starting from the one before."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # the penalty keeps the solution in the span of the examples, so that a hundred of them need a hundred dimensions,
    # however many the vectors have: the same optimum, found twice as quickly with 140 examples of 384
    span = np.eye(scaled.shape[1])
    if len(scaled) < scaled.shape[1]:
        span = np.linalg.qr(scaled.T)[0].T
        scaled = scaled @ span.T
    regression = LogisticRegression(class_weight="balanced", max_iter=300, tol=1e-3, warm_start=True)
    found = []
    with warnings.catch_warnings():
        # a solution a little short of the optimum classifies as well
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in strengths:
            regression.set_params(C=strength).fit(scaled, truth)
            weights, bias = regression.coef_.astype(np.float64), regression.intercept_.astype(np.float64)
            if len(weights) == 1:  # of two labels the decision value d is the second's: (-d/2, d/2) in a softmax
                weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
            found.append((weights @ span, bias.copy()))
    return found


MOST_FOLDS = 5
_SHUFFLES = 5  # tried for each number of folds, until every label is in every training part
Indices = NDArray[np.int64]


def join(ties: Sequence[Sequence[Hashable]]) -> NDArray[np.int64]:
    """Return groups of examples such that no two groups share a tie: ``(n,)`` numbers from 0.

    Args:
        ties: of each example, what may not be on both sides of a split, such as speaker and recording. Ties chain: a
            speaker of two recordings makes one group of both.
    """
    root = list(range(len(ties)))

    def find(at: int) -> int:
        while root[at] != at:
            root[at] = root[root[at]]
            at = root[at]
        return at

    first: dict[Hashable, int] = {}
    for at, tied in enumerate(ties):
        for tie in tied:
            a, b = find(first.setdefault(tie, at)), find(at)
            root[max(a, b)] = min(a, b)
    return np.unique([find(at) for at in range(len(ties))], return_inverse=True)[1].astype(np.int64).reshape(-1)


def counts(truth: Indices, groups: Indices) -> list[int]:
    """Return how many groups each label's examples come from."""
    return [int(np.unique(groups[truth == label]).size) for label in range(int(truth.max()) + 1)]


def split(truth: Indices, groups: Indices, seed: int, most: int = MOST_FOLDS) -> list[tuple[Indices, Indices]]:
    """Return splits into training and test rows, no group in both, every label in every training part; else [].

    Labels are spread as evenly as their groups allow (scikit-learn's StratifiedGroupKFold).
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels = int(truth.max()) + 1
    for folds in range(min(most, *counts(truth, groups)), 1, -1):
        for shuffle in range(_SHUFFLES):
            splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed + shuffle)
            made = [(train, test) for train, test in splitter.split(truth, truth, groups) if test.size]
            if all(np.unique(truth[train]).size == labels for train, _ in made):
                return made
    return []
