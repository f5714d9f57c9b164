"""Adversarial triplets, after arXiv 2604.26347: is an emotion nearer than a speaker or a sentence?

An anchor, a positive of its emotion by another speaker in other words, and a negative of another emotion that shares
with the anchor the sentence (*words*: by another speaker), the speaker (*voice*: another sentence) or the two (*both*).
Right where the positive is nearer; a tie counts half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation.bootstrap import interval
from e2vsearch.analysis.evaluation.ranking import Codes
from e2vsearch.analysis.evaluation.types import TripletKind, Triplets

KINDS: tuple[TripletKind, ...] = ("words", "voice", "both")
_Items = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Items of triplets, each ``(draws,)``."""

    anchors: _Items
    positives: _Items
    negatives: _Items
    possible: int  # items that could be an anchor


def measure(
    anchors: NDArray[np.float32],
    gallery: NDArray[np.float32],
    labels: tuple[Codes, Codes, Codes],
    draws: int,
    seed: int,
) -> dict[TripletKind, Triplets]:
    """Return the accuracy of each kind that can be drawn at all.

    Args:
        anchors: ``(n, dim)``, of length one.
        gallery: ``(n, dim)``, of length one, of positives and negatives.
        labels: emotion, speaker and sentence of each item.
        draws: triplets of each kind.
        seed: the same seed draws the same triplets for all vectors of the same items.
    """
    found: dict[TripletKind, Triplets] = {}
    for at, kind in enumerate(KINDS):
        drawn = draw(kind, labels, draws, np.random.default_rng((seed, at)))
        if drawn is None:
            continue
        near, far = (
            np.einsum("nd,nd->n", anchors[drawn.anchors], gallery[items])
            for items in (drawn.positives, drawn.negatives)
        )
        right = np.where(near == far, 0.5, near > far).astype(np.float64)
        speakers = labels[1][drawn.anchors]
        found[kind] = Triplets(float(right.mean()), interval(right, speakers, seed), right.size, drawn.possible)
    return found


def draw(kind: TripletKind, labels: tuple[Codes, Codes, Codes], draws: int, rng: np.random.Generator) -> Drawn | None:
    """Draw triplets of one kind; None where no item can be an anchor.

    Every possible anchor is drawn equally often (but for the last round); its positive and negative are drawn evenly.
    """
    emotion, speaker, sentence = labels
    same_emotion, same_speaker, same_sentence = (_size(codes) for codes in labels)
    emotion_speaker, emotion_sentence, speaker_sentence = (
        _size(*pair) for pair in ((emotion, speaker), (emotion, sentence), (speaker, sentence))
    )
    alike = _size(*labels)
    positives = same_emotion - emotion_speaker - emotion_sentence + alike
    negatives, shared = {
        "words": (same_sentence - speaker_sentence - emotion_sentence + alike, (sentence,)),
        "voice": (same_speaker - speaker_sentence - emotion_speaker + alike, (speaker,)),
        "both": (speaker_sentence - alike, (speaker, sentence)),
    }[kind]
    possible = np.flatnonzero((positives > 0) & (negatives > 0))
    if not possible.size:
        return None
    anchors = np.resize(rng.permutation(possible), draws)
    differing = {"words": (emotion, speaker), "voice": (emotion, sentence), "both": (emotion,)}[kind]
    return Drawn(
        anchors,
        _pick(anchors, _group(emotion), (speaker, sentence), rng),
        _pick(anchors, _group(*shared), differing, rng),
        possible.size,
    )


def _group(*labels: Codes) -> _Items:
    """Return numbers from 0 for each combination of labels."""
    return np.unique(np.stack(labels), axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _size(*labels: Codes) -> _Items:
    """Return how many items share all of these labels with each item, itself included."""
    group = _group(*labels)
    return np.bincount(group)[group]


def _pick(anchors: _Items, group: _Items, differing: tuple[Codes, ...], rng: np.random.Generator) -> _Items:
    """Draw for each anchor an item of its group that differs from it in all of `differing`, each equally likely.

    Drawn from the whole group and again until it differs. Anchors have one such item at least, so that this ends.
    """
    members = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    first = np.cumsum(sizes) - sizes
    picked = np.empty(anchors.size, np.int64)
    left = np.arange(anchors.size)
    while left.size:
        of = group[anchors[left]]
        picked[left] = members[first[of] + rng.integers(0, sizes[of])]
        wrong = np.zeros(left.size, bool)
        for codes in differing:
            wrong |= codes[picked[left]] == codes[anchors[left]]
        left = left[wrong]
    return picked
