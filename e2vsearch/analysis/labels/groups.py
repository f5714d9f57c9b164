"""Which examples may not be on both sides of a split, and the splits. Knows who speaks, nothing of vectors."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

MOST_FOLDS = 5
_SHUFFLES = 5  # tried for each number of folds, until every label is in every training part

Indices = NDArray[np.int64]


def join(ties: Sequence[Sequence[Hashable]]) -> NDArray[np.int64]:
    """Groups of examples such that no two groups share a tie: ``(n,)`` numbers from 0.

    Args:
        ties: of each example what may not be on both sides of a split, such as its speaker and its recording. Ties
            chain: who speaks in two calls makes one group of both.
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
    """How many groups each label's examples come from."""
    return [int(np.unique(groups[truth == label]).size) for label in range(int(truth.max()) + 1)]


def split(truth: Indices, groups: Indices, seed: int, most: int = MOST_FOLDS) -> list[tuple[Indices, Indices]]:
    """Splits into training and test part, no group in both, every label in every training part; [] if none can be had.

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
