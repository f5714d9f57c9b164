"""How often an encoder's own class scores name the emotion. Knows names and scores, nothing of vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation.results import Recall

_ADJECTIVES = {
    "anger": "angry",
    "disgust": "disgusted",
    "fear": "fearful",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprise": "surprised",
}
"""Corpora name the emotion, emotion2vec how one feels; nothing else is taken to be the same."""


def recall(scores: NDArray[np.floating] | None, classes: Sequence[str], emotions: Sequence[str]) -> Recall | None:
    """Unweighted average recall among the classes that the labels know too; None with fewer than two of them.

    The likeliest of the shared classes is what the encoder says: a class that nobody labelled cannot be right.

    Args:
        scores: ``(n, classes)``; rows with NaN have none.
        classes: the encoder's, in the order of the scores.
        emotions: ``(n,)``, as labelled.
    """
    if scores is None:
        return None
    names = sorted(set(emotions))
    at = {adjective(name): column for column, name in enumerate(classes)}
    columns = {name: at[adjective(name)] for name in names if adjective(name) in at}
    shared = sorted(set(columns.values()))
    if len(shared) < 2:
        return None
    said = np.array(shared)[np.argmax(scores[:, shared], axis=1)]
    scored = np.isfinite(scores).all(axis=1)
    truth = np.array([columns.get(emotion, -1) for emotion in emotions])
    recalls = {}
    for name, column in columns.items():
        of = scored & (truth == column) & (np.array(emotions) == name)
        if of.any():
            recalls[name] = float((said[of] == column).mean())
    if len(recalls) < 2:
        return None
    n = int((scored & (truth >= 0)).sum())
    return Recall(float(np.mean(list(recalls.values()))), 1 / len(shared), recalls, n)


def adjective(name: str) -> str:
    """The encoder's word for an emotion that labels name, in lower case: ``angry`` of ``Anger``."""
    folded = name.strip().casefold()
    return _ADJECTIVES.get(folded, folded)
