"""Retrieval metrics: how well vectors find the same emotion, and how much of speaker and sentence leaks.

Rankings: each item in turn is the query; items of its own speaker (and sentence) are left out, so that a likeness of
voice (or words) earns nothing. A query with no item of its emotion left is not counted.

Leak: only the query's own recording is left out, and the share of its speaker (sentence) among its ten nearest is
compared with that among all.

Items whose speaker or sentence is unknown are neither queries nor in the gallery where it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation import triplets
from e2vsearch.analysis.evaluation.bootstrap import interval
from e2vsearch.analysis.evaluation.ranking import (
    Block,
    Codes,
    Neighbours,
    Ranked,
    blocks,
    joined,
    kept_in,
    neighbours,
    ordered,
    scored,
)
from e2vsearch.analysis.evaluation.types import EmotionRanking, Figures, Gain, Leak, Ranking, Recall
from e2vsearch.errors import AnalysisError, TooFewExamples
from e2vsearch.vectors.exact import unit32

DRAWS = 6_000
"""Triplets of each kind: more would not narrow the interval over speakers."""

LabelSequence = Sequence[Any] | NDArray[Any]
"""One label an item; None and "" are unknown."""


@dataclass(frozen=True, slots=True)
class _Labels:
    """Labels as numbers; each unknown one is a group of its own, and not `known`."""

    names: tuple[str, ...]  # of the emotions
    emotions: Codes
    speakers: Codes
    texts: Codes
    recordings: Codes
    speaker_known: NDArray[np.bool_]
    text_known: NDArray[np.bool_]

    def take(self, items: NDArray[np.int64]) -> tuple[Codes, Codes, Codes]:
        return self.emotions[items], self.speakers[items], self.texts[items]


def measure(
    vectors: NDArray[np.floating],
    emotions: LabelSequence,
    speakers: LabelSequence | None = None,
    texts: LabelSequence | None = None,
    seed: int = 0,
    *,
    recordings: LabelSequence | None = None,
    gallery: NDArray[np.floating] | None = None,
    draws: int = DRAWS,
) -> Figures:
    """Return all figures of vectors, compared by cosine.

    Args:
        vectors: ``(n, dim)``, of any length.
        emotions: ``(n,)``, all known.
        speakers: ``(n,)``; None where unknown, or for all.
        texts: ``(n,)``: any name of the sentence.
        seed: of triplets, resamples and the order of ties.
        recordings: ``(n,)``, of each item: a query never finds its own. By default each is its own.
        gallery: ``(n, dim)``, other vectors of the same items, such as those of clean recordings.
        draws: triplets of each kind.

    Raises:
        TooFewExamples: fewer than two emotions, or none twice.
        AnalysisError: vectors and labels that do not fit, or are not finite.
    """
    labels = _labels(emotions, speakers, texts, recordings)
    queries = _checked(vectors, labels)
    found = queries if gallery is None else _checked(gallery, labels)
    if found.shape != queries.shape:
        raise AnalysisError(f"queries of shape {queries.shape} cannot be compared with a gallery of {found.shape}")
    everything = np.ones(len(queries), bool)
    both_known = labels.speaker_known & labels.text_known
    rankings: list[list[Ranked]] = [[], [], []]
    leaks: list[list[Neighbours]] = [[], []]
    for block in blocks(queries, found, seed):
        rules = (
            (everything, (labels.recordings,)),
            (labels.speaker_known, (labels.recordings, labels.speakers)),
            (both_known, (labels.recordings, labels.speakers, labels.texts)),
        )
        for (known, left_out), rows in zip(rules, rankings, strict=True):
            if known.any():
                rows.append(scored(block, kept_in(block, known, left_out), labels.emotions))
        sharing = ((labels.speaker_known, labels.speakers), (labels.text_known, labels.texts))
        for (known, groups), near in zip(sharing, leaks, strict=True):
            if known.any():
                kept = kept_in(block, known, (labels.recordings,))
                near.append(neighbours(block, kept, groups, labels.emotions))
    everyone, others, other_words = (_ranking(rows, labels, seed) for rows in rankings)
    items = np.flatnonzero(both_known)
    return Figures(
        n=len(queries),
        everyone=everyone,
        other_speakers=others,
        other_speakers_and_texts=other_words,
        same_speaker=_leak(leaks[0]),
        same_text=_leak(leaks[1]),
        triplets=triplets.measure(queries[items], found[items], labels.take(items), draws, seed),
    )


def gain(
    ours: NDArray[np.floating],
    theirs: NDArray[np.floating],
    emotions: LabelSequence,
    speakers: LabelSequence,
    seed: int = 0,
    *,
    recordings: LabelSequence | None = None,
) -> Gain:
    """Return the gain of one set of vectors over another for the same items, the query's speaker left out.

    The interval is of the difference, query by query: spaces whose own intervals overlap may still differ.

    Args:
        ours: ``(n, dim)``.
        theirs: ``(n, dim)`` of the same items, of any dimension.
        emotions: ``(n,)``.
        speakers: ``(n,)``.
        seed: of the resamples and the order of ties.
        recordings: as for `measure`.

    Raises:
        TooFewExamples: no emotion has two speakers.
        AnalysisError: as for `measure`.
    """
    a, b = (ranking_figures(each, emotions, speakers, seed, recordings=recordings) for each in (ours, theirs))
    if not a.queries.size:
        raise TooFewExamples("no emotion has two speakers - label more clips, or name who speaks in them")
    groups = _codes(speakers, len(emotions))[0][a.queries]
    average, precision = a.average_precision - b.average_precision, a.precision[:, -1] - b.precision[:, -1]
    return Gain(
        float(average.mean()),
        interval(average, groups, seed),
        float(precision.mean()),
        interval(precision, groups, seed),
    )


def ranking_figures(
    vectors: NDArray[np.floating],
    emotions: LabelSequence,
    speakers: LabelSequence,
    seed: int = 0,
    *,
    recordings: LabelSequence | None = None,
) -> Ranked:
    """Return average precision and precision of each query, its speaker left out; no row without relevant items.

    Args:
        vectors: ``(n, dim)``, of any length.
        emotions: ``(n,)``.
        speakers: ``(n,)``.
        seed: of the order of ties.
        recordings: as for `measure`.

    Raises:
        TooFewExamples: as for `measure`.
        AnalysisError: as for `measure`.
    """
    labels = _labels(emotions, speakers, None, recordings)
    checked = _checked(vectors, labels)
    return joined([_others(block, labels) for block in blocks(checked, checked, seed)])


def ranking_figures_by(
    scores: NDArray[np.floating], emotions: LabelSequence, speakers: LabelSequence, seed: int = 0
) -> Ranked:
    """Return as `ranking_figures` does, for items whose score is no cosine, such as recordings of several segments.

    Args:
        scores: ``(n, n)``, of each query and each item; the greater, the nearer.
        emotions: ``(n,)``.
        speakers: ``(n,)``.
        seed: of the order of ties.

    Raises:
        TooFewExamples: as for `measure`.
        AnalysisError: scores and labels that do not fit.
    """
    if scores.shape != (len(emotions), len(emotions)):
        raise AnalysisError(f"scores of shape {scores.shape} do not fit {len(emotions)} labels: give (n, n)")
    return _others(ordered(scores, seed), _labels(emotions, speakers, None, None))


def _others(block: Block, labels: _Labels) -> Ranked:
    left_out = (labels.recordings, labels.speakers)
    return scored(block, kept_in(block, labels.speaker_known, left_out), labels.emotions)


def _labels(
    emotions: LabelSequence,
    speakers: LabelSequence | None,
    texts: LabelSequence | None,
    recordings: LabelSequence | None,
) -> _Labels:
    n = len(emotions)
    names, kinds = np.unique(np.array([str(each) for each in emotions]), return_inverse=True)
    if names.size < 2 or np.bincount(kinds.reshape(-1)).max() < 2:
        raise TooFewExamples(
            f"{n} labelled segments of {names.size} emotion(s) are too few: two emotions are needed, one of them twice"
        )
    coded = []
    for given in (speakers, texts, recordings):
        if given is not None and len(given) != n:
            raise AnalysisError(f"{len(given)} labels do not fit {n} emotions: give one for each item")
        coded.append(_codes(given, n))
    (speaker_codes, speaker_known), (text_codes, text_known), (files, _) = coded
    codes = kinds.reshape(-1).astype(np.int32), speaker_codes, text_codes, files
    return _Labels(tuple(names.tolist()), *codes, speaker_known, text_known)


def _codes(labels: LabelSequence | None, n: int) -> tuple[Codes, NDArray[np.bool_]]:
    """Return labels as numbers, each unknown one by itself, and which are known."""
    given = [None] * n if labels is None else [None if each is None or each == "" else str(each) for each in labels]
    known = np.array([each is not None for each in given], bool)
    numbers: dict[Any, int] = {}
    codes = [numbers.setdefault(at if each is None else each, len(numbers)) for at, each in enumerate(given)]
    return np.array(codes, np.int32), known


def _checked(vectors: NDArray[np.floating], labels: _Labels) -> NDArray[np.float32]:
    array = np.asarray(vectors)
    if array.ndim != 2 or len(array) != labels.emotions.size:
        raise AnalysisError(f"vectors of shape {array.shape} do not fit {labels.emotions.size} labels: give (n, dim)")
    if not np.isfinite(array).all():
        raise AnalysisError("the vectors have NaN or infinite values: check what made them")
    return unit32(array)


def _ranking(parts: list[Ranked], labels: _Labels, seed: int) -> Ranking | None:
    if not sum(part.queries.size for part in parts):
        return None
    rows = joined(parts)
    speakers, kinds = labels.speakers[rows.queries], labels.emotions[rows.queries]
    precision = rows.precision.mean(axis=0).tolist()
    by_emotion = {}
    for kind in np.unique(kinds).tolist():
        of = kinds == kind
        by_emotion[labels.names[kind]] = EmotionRanking(
            map=float(rows.average_precision[of].mean()),
            map_chance=float(rows.chance[of].mean()),
            precision_at_10=float(rows.precision[of, -1].mean()),
            precision_chance=float(rows.share[of].mean()),
            queries=int(of.sum()),
        )
    return Ranking(
        map=float(rows.average_precision.mean()),
        map_interval=interval(rows.average_precision, speakers, seed),
        map_chance=float(rows.chance.mean()),
        precision_at_1=precision[0],
        precision_at_5=precision[1],
        precision_at_10=precision[2],
        precision_at_10_interval=interval(rows.precision[:, -1], speakers, seed),
        precision_chance=float(rows.share.mean()),
        queries=rows.queries.size,
        by_emotion=by_emotion,
    )


def _leak(parts: list[Neighbours]) -> Leak | None:
    if not sum(part.queries.size for part in parts):
        return None
    near, there, alike = (
        np.concatenate(rows) for rows in zip(*((part.near, part.all, part.alike) for part in parts), strict=True)
    )
    chance, at_10 = float(there.mean()), float(near.mean())
    perfect = alike[np.isfinite(alike)]
    return Leak(
        at_10=at_10,
        chance=chance,
        ratio=at_10 / chance if chance else None,
        perfect=float(perfect.mean()) if perfect.size else None,
        queries=near.size,
    )


_ADJECTIVES = {
    "anger": "angry",
    "disgust": "disgusted",
    "fear": "fearful",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprise": "surprised",
}
"""Corpora use nouns, emotion2vec adjectives; nothing else counts as the same."""


def recall(scores: NDArray[np.floating] | None, classes: Sequence[str], emotions: Sequence[str]) -> Recall | None:
    """Return unweighted average recall among the classes that are labelled too; None with fewer than two of them.

    The prediction is the likeliest of the shared classes: one without labels cannot be right.

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
    predicted = np.array(shared)[np.argmax(scores[:, shared], axis=1)]
    scored = np.isfinite(scores).all(axis=1)
    truth = np.array([columns.get(emotion, -1) for emotion in emotions])
    recalls = {}
    for name, column in columns.items():
        of = scored & (truth == column) & (np.array(emotions) == name)
        if of.any():
            recalls[name] = float((predicted[of] == column).mean())
    if len(recalls) < 2:
        return None
    n = int((scored & (truth >= 0)).sum())
    return Recall(float(np.mean(list(recalls.values()))), 1 / len(shared), recalls, n)


def adjective(name: str) -> str:
    """Return the encoder's word for a labelled emotion, in lower case: ``angry`` for ``Anger``."""
    folded = name.strip().casefold()
    return _ADJECTIVES.get(folded, folded)
