"""Class priors: a prior for conversations, adapted to a collection, and posteriors under it.

A head that was trained on as much disgust as plain speech has a uniform prior in it, and conversations are mostly
neutral. The prior is adapted to the collection by EM (Saerens, Latinne and Decaestecker 2002, "Adjusting the outputs
of a classifier to new a priori probabilities", Neural Computation 14(1), 21-41, doi:10.1162/089976602753284446), held
by an anchor that no collection can pull it from altogether.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from e2vsearch.emotions import NEUTRAL

CONVERSATION = 0.6
"""Share of neutral speech in a conversation, the anchor's; all other classes share the rest evenly."""

# EM slows down where classes are hard to tell apart. 20,000 segments, seven classes with means .3 standard deviations
# out and an anchor of one segment: .013 from the end after 200 rounds, .0003 after 1,000 (2.5 s); at .7 it has settled
_ROUNDS = 1000
_CONVERGED = 1e-9  # the largest change of a share in a round, below which it has converged


def conversation(labels: Sequence[str]) -> NDArray[np.float64]:
    """Return the prior ``(labels,)`` of conversations: mostly neutral; uniform without such a class.

    >>> conversation(("angry", "neutral", "sad")).round(2).tolist()
    [0.2, 0.6, 0.2]
    """
    neutral = np.array([label.casefold() == NEUTRAL for label in labels])
    if neutral.sum() != 1 or len(labels) == 1:
        return np.full(len(labels), 1.0 / len(labels))
    return np.where(neutral, CONVERSATION, (1.0 - CONVERSATION) / (len(labels) - 1))


def adapt_prior(posteriors: NDArray[np.floating], anchor: NDArray[np.floating], weight: float) -> NDArray[np.float64]:
    """Return the class prior of a collection, by EM.

    It is the largest posterior probability under a Dirichlet distribution: each round is the mean of the posteriors
    under the prior so far, with ``weight`` segments of the anchor's mix among them. The maximum is the only one, as the
    likelihood is concave in the prior and the anchor is so strictly.

    EM adapts to the collection's classes and to the classifier's errors alike: without an anchor, a head that takes one
    caller in three for disgusted makes disgust a third of the collection, and then names more of it so.

    Args:
        posteriors: ``(n, labels)`` of the collection's segments under a uniform prior, each summing to one; n may be 0.
        anchor: ``(labels,)`` positive, summing to one, such as `conversation` gives.
        weight: how many segments the anchor is worth, above 0.

    Returns:
        The prior ``(labels,)``, positive, summing to one.

    Raises:
        ValueError: the anchor is no prior of these classes, or the weight not above 0.
    """
    start = _checked(anchor, posteriors.shape[1])
    if not weight > 0:
        raise ValueError(f"an anchor's weight is above 0, not {weight}")
    likelihoods, prior = posteriors.astype(np.float64), start
    for _ in range(_ROUNDS):
        before = prior
        sums = with_prior(likelihoods, prior).sum(axis=0)
        prior = (sums + weight * start) / (len(likelihoods) + weight)
        if np.abs(prior - before).max() < _CONVERGED:
            break
    return prior


def with_prior(posteriors: NDArray[np.floating], prior: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return posteriors ``(n, labels)``, given under a uniform prior, under another, each summing to one.

    Raises:
        ValueError: it is no prior of these classes.
    """
    weighted = posteriors.astype(np.float64) * _checked(prior, posteriors.shape[1])
    shares: NDArray[np.float64] = weighted / weighted.sum(axis=1, keepdims=True)
    return shares


def _checked(prior: NDArray[np.floating], labels: int) -> NDArray[np.float64]:
    wide = np.asarray(prior, np.float64)
    if wide.shape != (labels,) or not (wide > 0).all() or not np.isclose(wide.sum(), 1.0, atol=1e-4):
        raise ValueError(f"a prior of {labels} classes is as many positive numbers that sum to one, not {wide}")
    summing_to_one: NDArray[np.float64] = wide / wide.sum()
    return summing_to_one
