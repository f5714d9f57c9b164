"""Active learning: which segments to label next.

With a classifier: the segments with the smallest margin between the two likeliest labels (Settles, Active Learning
Literature Survey, 2009), chosen greedily so that they differ from each other and from labelled ones (k-center: Sener
and Savarese, 2018). With examples alone: the segments nearest to the border between two labels' means, or most like the
only label's. Without examples: the segments nearest to k-means centroids.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.labels.predict import batches_of, open_classifier
from e2vsearch.analysis.labels.types import Kind, Suggestion
from e2vsearch.catalog import labels as rows
from e2vsearch.catalog.labels import StoredExample
from e2vsearch.errors import QueryError, missing_extra
from e2vsearch.feed import Batch
from e2vsearch.types import number_of
from e2vsearch.vectors.exact import unit

_CANDIDATES = (4, 20)  # of smallest margin for each segment suggested, at least and at most
_SHARE = 0.1  # of all segments, between these two: in a small collection a tenth is uncertain enough
_SAMPLE = 5000  # segments that k-means is fitted to
_EXAMPLES = 500  # the latest, which suggestions differ from


@dataclass(frozen=True, slots=True)
class _Reason:
    """Why a segment is suggested, and what is known of its label."""

    kind: Kind
    why: str
    label: str | None = None
    other: str | None = None
    score: float | None = None
    margin: float | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class _Pool:
    """Candidates for suggestion."""

    ids: NDArray[np.int64]
    recordings: NDArray[np.int64]
    units: NDArray[np.float64]  # (n, dim)
    margins: NDArray[np.float64]  # smallest first suggested
    first: NDArray[np.int64]  # index of the likeliest label
    second: NDArray[np.int64]  # and of the next
    scores: NDArray[np.float64]  # (n, 2) of both

    def with_least(self, other: _Pool, n: int) -> _Pool:
        """Return the n candidates of both with the smallest margins."""
        names = ("ids", "recordings", "units", "margins", "first", "second", "scores")
        both = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names}
        kept = np.argsort(both["margins"], kind="stable")[:n]
        return _Pool(**{name: column[kept] for name, column in both.items()})


def suggest(
    context: AnalysisContext, k: int = 10, classifier: str | None = None, where: str | None = None
) -> tuple[Suggestion, ...]:
    """Return the segments to label next, the most informative first; never one that is labelled.

    Args:
        context: the collection's.
        k: how many.
        classifier: whose margins count; by default the one trained last, without one the examples alone.
        where: only among these segments.

    Returns:
        Up to k segments; of different recordings, as long as candidates are.

    Raises:
        NotStored: there is no such classifier.
        QueryError: k is less than 1.
        BadFilter: the filter makes no sense.
        MissingExtra: nothing is labelled yet, and scikit-learn is not installed.
    """
    if k < 1:
        raise QueryError(f"k must be 1 or more, not {k}")
    context.catalog.require_space()
    catalog = context.catalog
    ids = rows.segment_ids(catalog) if where is None else catalog.select(where)
    ids = np.setdiff1d(ids, rows.labelled(catalog), assume_unique=True)
    examples = rows.examples(catalog)
    if classifier is not None or rows.classifiers(catalog):
        return _by_classifier(context, ids, examples, k, classifier)
    if examples:
        return _by_examples(context, ids, examples, k)
    return _by_centres(context, ids, k)


def _by_classifier(
    context: AnalysisContext, ids: NDArray[np.int64], examples: list[StoredExample], k: int, name: str | None
) -> tuple[Suggestion, ...]:
    stored, model = open_classifier(context, name)
    batches = (_by_margin(batch, model.probabilities(batch.vectors)) for batch in batches_of(context, ids))
    pool = _least(batches, ids.size, k)
    if pool is None:
        return ()
    chosen = _varied(pool, examples, k)
    reasons = []
    for at in chosen:
        label, other = stored.labels[pool.first[at]], stored.labels[pool.second[at]]
        first, second = pool.scores[at].tolist()
        why = f"undecided: {label} {first:.2f}, {other} {second:.2f}"
        reasons.append(_Reason("undecided", why, label, other, first, float(pool.margins[at])))
    return _described(context, pool.ids[chosen].tolist(), reasons)


def _by_examples(
    context: AnalysisContext, ids: NDArray[np.int64], examples: list[StoredExample], k: int
) -> tuple[Suggestion, ...]:
    names = sorted({each.label for each in examples})
    means = [unit(np.stack([each.vector for each in examples if each.label == name])).mean(axis=0) for name in names]
    centres = unit(np.stack(means))
    found = ((batch, unit(batch.vectors) @ centres.T) for batch in batches_of(context, ids))
    # one label has no border: the most similar segments come first
    pool_of = _by_margin if len(names) > 1 else _by_similarity
    pool = _least((pool_of(batch, cosines) for batch, cosines in found), ids.size, k)
    if pool is None:
        return ()
    chosen = _varied(pool, examples, k)
    reasons = []
    for at in chosen:
        label, other = names[pool.first[at]], names[pool.second[at]]
        if len(names) > 1:
            reasons.append(_Reason("between", f"between {label} and {other}: about as near to either", label, other))
        else:
            why = f"like the examples of {label}: a yes confirms it, a no shows where it ends"
            reasons.append(_Reason("alike", why, label))
    return _described(context, pool.ids[chosen].tolist(), reasons)


def _by_centres(context: AnalysisContext, ids: NDArray[np.int64], k: int) -> tuple[Suggestion, ...]:
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise missing_extra("suggesting what to label first", "labels") from error

    rng = np.random.default_rng(0)
    batch = context.catalog.feed().fetch(rng.choice(ids, min(_SAMPLE, ids.size), replace=False) if ids.size else ids)
    if not batch.ids.size:
        return ()
    units = unit(batch.vectors)
    different = len(np.unique(units, axis=0))
    means = KMeans(min(k, different), n_init=1, random_state=0).fit(units)
    sizes = np.bincount(means.labels_)
    chosen, reasons = [], []
    for cluster in np.argsort(-sizes, kind="stable").tolist():
        members = np.flatnonzero(means.labels_ == cluster)
        distances = np.linalg.norm(units[members] - means.cluster_centers_[cluster], axis=1)
        chosen.append(int(batch.ids[members[np.argmin(distances)]]))
        share = float(sizes[cluster] / batch.ids.size)
        why = f"stands for about {share:.0%} of the segments, which are like it"
        reasons.append(_Reason("typical", why, share=share))
    return _described(context, chosen, reasons)


def _by_margin(batch: Batch, values: NDArray[np.float64]) -> _Pool:
    """Return the candidates of a batch with their margins of the likeliest label over the next."""
    order = np.argsort(-values, axis=1, kind="stable")[:, :2]
    two = np.take_along_axis(values, order, axis=1)
    return _Pool(batch.ids, batch.recordings, unit(batch.vectors), two[:, 0] - two[:, 1], order[:, 0], order[:, 1], two)


def _by_similarity(batch: Batch, cosines: NDArray[np.float64]) -> _Pool:
    """Return the candidates of a batch with their distances from the only label in place of margins."""
    none = np.zeros(batch.ids.size, np.int64)
    two = np.repeat(cosines, 2, axis=1)
    return _Pool(batch.ids, batch.recordings, unit(batch.vectors), 1.0 - cosines[:, 0], none, none, two)


def _least(batches: Iterator[_Pool], total: int, k: int) -> _Pool | None:
    """Return the candidates of all batches with the smallest margins; None if there are none."""
    fewest, most = (share * k for share in _CANDIDATES)
    wanted = min(max(fewest, int(_SHARE * total)), most)
    pool: _Pool | None = None
    for batch in batches:
        if batch.ids.size:
            empty = pool or _Pool(*(getattr(batch, name)[:0] for name in batch.__dataclass_fields__))
            pool = empty.with_least(batch, wanted)
    return pool


def _varied(pool: _Pool, examples: list[StoredExample], k: int) -> list[int]:
    """Return up to k indices of candidates: of small margin, unlike each other and the examples, of many recordings."""
    weights = np.linspace(1.0, 0.5, pool.ids.size)  # the pool is sorted by margin
    if examples:
        labelled = unit(np.stack([each.vector for each in examples[-_EXAMPLES:]]))
        nearest = (pool.units @ labelled.T).max(axis=1)
    else:
        nearest = np.full(pool.ids.size, -1.0)
    free, chosen = np.ones(pool.ids.size, bool), []
    fresh = free.copy()
    for _ in range(min(k, pool.ids.size)):
        open_ = fresh & free if (fresh & free).any() else free
        value = np.where(open_, weights * (1.0 - np.minimum(nearest, 1.0)), -1.0)
        best = int(np.argmax(value))
        chosen.append(best)
        free[best] = False
        fresh &= pool.recordings != pool.recordings[best]
        nearest = np.maximum(nearest, pool.units @ pool.units[best])
    return chosen


def _described(context: AnalysisContext, ids: list[int], reasons: list[_Reason]) -> tuple[Suggestion, ...]:
    segments = dict(context.catalog.segments(ids))
    of = sorted({number_of(each.recording, "call") for each in segments.values()})
    recordings = {recording.id: recording for _, recording in context.catalog.recordings(of)}
    made = []
    for number, reason in zip(ids, reasons, strict=True):
        segment = segments.get(number)
        if segment is None or segment.recording not in recordings:
            continue  # removed by another process meanwhile
        recording = recordings[segment.recording]
        made.append(
            Suggestion(
                segment=segment.id,
                recording=recording.id,
                name=recording.name,
                uri=recording.uri,
                channel=segment.channel,
                start_s=segment.start_s,
                end_s=segment.end_s,
                label=reason.label,
                score=reason.score,
                margin=reason.margin,
                why=reason.why,
                kind=reason.kind,
                other=reason.other,
                share=reason.share,
                text=segment.text,
                emotion=segment.emotion,
                emotion_score=segment.emotion_score,
            )
        )
    return tuple(made)
