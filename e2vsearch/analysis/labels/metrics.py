"""How good predictions are: recalls, confusion, calibration, intervals. Knows numbers, nothing of classifiers.

Every label counts the same in `uar` and in `calibration_error`, as it does in training: how common a label is among
examples that were picked by hand says nothing of how common it is in calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.labels.fit import Indices, balanced

_DRAWS = 1000  # of the bootstrap

_BINS = 10  # of the calibration error


@dataclass(frozen=True, slots=True)
class Judgement:
    """How predictions compare with the truth."""

    accuracy: float
    accuracy_interval: tuple[float, float]  # 95 %
    uar: float  # mean over labels of the share found (unweighted average recall)
    uar_interval: tuple[float, float]
    confusion: NDArray[np.int64]  # (labels, labels), true by predicted
    calibration_error: float  # expected: mean distance of confidence from accuracy, over ten bins


def judge(truth: Indices, probabilities: NDArray[np.float64], groups: Indices, seed: int = 0) -> Judgement:
    """Compare predictions with the truth; the intervals draw whole groups, since examples of one voice go together.

    Args:
        truth: ``(n,)`` labels as numbers from 0.
        probabilities: ``(n, labels)``.
        groups: ``(n,)``.
        seed: of the bootstrap.
    """
    labels = probabilities.shape[1]
    said = probabilities.argmax(axis=1)
    confusion = np.zeros((labels, labels), np.int64)
    np.add.at(confusion, (truth, said), 1)
    # confusion of each group alone: a draw of groups is then a sum
    members = np.unique(groups, return_inverse=True)[1].reshape(-1)
    by_group = np.zeros((int(members.max()) + 1, labels, labels))
    np.add.at(by_group, (members, truth, said), 1)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(by_group), np.full(len(by_group), 1 / len(by_group)), size=_DRAWS)
    drawn = np.tensordot(draws, by_group, axes=1)
    return Judgement(
        accuracy=float((said == truth).mean()),
        accuracy_interval=_interval(np.trace(drawn, axis1=1, axis2=2) / drawn.sum(axis=(1, 2))),
        uar=float(recalls(confusion[None])[0]),
        uar_interval=_interval(recalls(drawn)),
        confusion=confusion,
        calibration_error=calibration_error(truth, probabilities),
    )


def recalls(confusions: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Unweighted average recall of confusions ``(m, labels, labels)``, over the labels that are there, ``(m,)``."""
    there = confusions.sum(axis=2)
    found = np.diagonal(confusions, axis1=1, axis2=2) / np.maximum(there, 1)
    mean: NDArray[np.float64] = found.sum(axis=1) / np.maximum((there > 0).sum(axis=1), 1)
    return mean


def calibration_error(truth: Indices, probabilities: NDArray[np.float64]) -> float:
    """Expected calibration error (Naeini et al., 2015) with every label weighing the same."""
    confidence = probabilities.max(axis=1)
    gaps = balanced(truth) * ((probabilities.argmax(axis=1) == truth) - confidence)
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    return float(np.abs(np.bincount(bins, gaps, _BINS)).sum())


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
