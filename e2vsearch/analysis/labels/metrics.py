"""Figures of predictions: recalls, confusion, calibration, intervals.

Every label counts the same in `uar` and in `calibration_error`, as it does in training: examples are picked by hand,
and their mix of labels is not that of calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.labels.fit import Indices, balanced

_DRAWS = 1000  # of the bootstrap
_BINS = 10  # of the calibration error


@dataclass(frozen=True, slots=True)
class ClassificationMetrics:
    """Figures of predictions against true labels."""

    accuracy: float
    accuracy_interval: tuple[float, float]  # 95 %
    uar: float  # mean over labels of the share found (unweighted average recall)
    uar_interval: tuple[float, float]
    confusion: NDArray[np.int64]  # (labels, labels), true by predicted
    calibration_error: float  # expected: mean distance of confidence from accuracy, over ten bins


def measure(
    truth: Indices, probabilities: NDArray[np.float64], groups: Indices, seed: int = 0
) -> ClassificationMetrics:
    """Compare predictions with the true labels; intervals resample whole groups, since these are not independent.

    Args:
        truth: ``(n,)`` labels as numbers from 0.
        probabilities: ``(n, labels)``.
        groups: ``(n,)``.
        seed: of the bootstrap.
    """
    labels = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((labels, labels), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    # confusion of each group alone: a draw of groups is then a sum
    members = np.unique(groups, return_inverse=True)[1].reshape(-1)
    by_group = np.zeros((int(members.max()) + 1, labels, labels))
    np.add.at(by_group, (members, truth, predicted), 1)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(by_group), np.full(len(by_group), 1 / len(by_group)), size=_DRAWS)
    drawn = np.tensordot(draws, by_group, axes=1)
    return ClassificationMetrics(
        accuracy=float((predicted == truth).mean()),
        accuracy_interval=_interval(np.trace(drawn, axis1=1, axis2=2) / drawn.sum(axis=(1, 2))),
        uar=float(recalls(confusion[None])[0]),
        uar_interval=_interval(recalls(drawn)),
        confusion=confusion,
        calibration_error=calibration_error(truth, probabilities),
    )


def recalls(confusions: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return unweighted average recall ``(m,)`` of confusions ``(m, labels, labels)``, over the labels present."""
    there = confusions.sum(axis=2)
    found = np.diagonal(confusions, axis1=1, axis2=2) / np.maximum(there, 1)
    mean: NDArray[np.float64] = found.sum(axis=1) / np.maximum((there > 0).sum(axis=1), 1)
    return mean


def calibration_error(truth: Indices, probabilities: NDArray[np.float64]) -> float:
    """Return the expected calibration error (Naeini et al., 2015) with every label weighing the same."""
    confidence = probabilities.max(axis=1)
    gaps = balanced(truth) * ((probabilities.argmax(axis=1) == truth) - confidence)
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    return float(np.abs(np.bincount(bins, gaps, _BINS)).sum())


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
