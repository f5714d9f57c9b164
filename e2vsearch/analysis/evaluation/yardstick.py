"""The rows of the yardstick: mean average precision in other speakers, under different conditions.

Every row adapts a projection to some clips without labels, searches some clips through it, and compares mean average
precision, the query's speaker left out, with that of the encoder's own vectors for the same queries. Intervals are
over speakers. A training script calls `rows` with its own network's vectors and projection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation import adaptation, splits
from e2vsearch.analysis.evaluation.adaptation import Adapt
from e2vsearch.analysis.evaluation.bootstrap import interval
from e2vsearch.analysis.evaluation.metrics import adjective, ranking_figures, ranking_figures_by
from e2vsearch.analysis.evaluation.ranking import Ranked
from e2vsearch.analysis.evaluation.splits import ComposedCalls, Items, Labels
from e2vsearch.analysis.evaluation.types import YardstickRow, YardstickSummary
from e2vsearch.errors import SettingsError, TooFewExamples
from e2vsearch.vectors.exact import unit32

ACTED, HEARD, TELEPHONE, ONE_MOOD, CALLS = "acted", "heard", "telephone", "one mood per voice", "calls"

MIXES = {
    "fitted on 8 of 10 neutral": ("neutral", 0.8),
    "fitted on 8 of 10 angry": ("angry", 0.8),
    "fitted on all angry": ("angry", 1.0),
}
"""Rows whose projection is adapted on a skewed mix: the prevailing emotion, and its share."""

KINDS = (ACTED, HEARD, TELEPHONE, ONE_MOOD, *MIXES, CALLS)
DRAWS, CALL_DRAWS = 10, 3
"""Of one emotion per speaker, and of composed calls."""


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedClips:
    """n labelled clips of one corpus, with the encoder's vectors."""

    vectors: Mapping[str, NDArray[np.float32]]  # by condition, "clean" and "telephone": (n, dim)
    emotions: Labels  # (n,) as acted, or a corpus's only labels
    speakers: Labels  # (n,) "": unknown, here and below
    texts: Labels | None = None  # (n,)
    heard: Labels | None = None  # (n,) of most raters; "": no majority
    recordings: Labels | None = None  # (n,) of each clip, which it never finds; None: each is its own


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One measurement: the clips adapted on, the clips searched, and their labels."""

    vectors: NDArray[np.float32]  # (n, dim)
    emotions: Labels  # (n,)
    speakers: Labels  # (n,)
    fit: Items
    search: Items
    recordings: Labels | None = None  # (n,)
    calls: ComposedCalls | None = None  # searched in place of the clips that they are composed of


@dataclass(frozen=True, slots=True)
class Yardstick:
    """The rows of some clips, and notes on those left out."""

    rows: tuple[YardstickRow, ...]
    notes: tuple[str, ...] = field(default=())


def rows(
    name: str,
    clips: EmbeddedClips,
    adapt: Adapt,
    kinds: Sequence[str] = KINDS,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Yardstick:
    """Return the rows of one corpus.

    Args:
        name: of the corpus; each row's name begins with it.
        clips: adapted on and searched.
        adapt: makes the projection of the clips adapted on; `adaptation.default` is a collection's.
        kinds: of `KINDS`, in the order wanted; those without their condition or labels are left out.
        draws: of one mood per voice; of calls `CALL_DRAWS` at most.
        seed: of splits, ties and intervals.

    Raises:
        SettingsError: a kind that is not among them.
    """
    found: list[YardstickRow] = []
    notes: list[str] = []
    raw = _Raw(seed)
    for kind in kinds:
        title = name if kind == ACTED and clips.heard is None else f"{name} {kind}".strip()
        try:
            made = trials(kind, clips, draws, seed)
            if made:
                found.append(_row(title, made, adapt, seed, raw))
        except TooFewExamples as error:
            notes.append(f"{title} is left out: {error}")
    return Yardstick(tuple(found), tuple(notes))


def summary(found: Sequence[YardstickRow]) -> YardstickSummary:
    """Return the means over rows, each counting the same, and the row in which the projection gains least.

    Raises:
        TooFewExamples: there are no rows.
    """
    if not found:
        raise TooFewExamples("no row could be measured: label more clips, emotions or voices")
    worst = min(found, key=lambda each: each.gain)
    map_, raw, gain = (float(np.mean([getattr(each, name) for each in found])) for name in ("map", "raw", "gain"))
    return YardstickSummary(map_, raw, gain, worst, len(found))


def trials(kind: str, clips: EmbeddedClips, draws: int = DRAWS, seed: int = 0) -> list[Trial]:
    """Return the trials of one of `KINDS`; none where the clips have no such condition or labels.

    Raises:
        TooFewExamples: too few clips or speakers.
        SettingsError: there is no such kind.
    """
    if kind not in KINDS:
        raise SettingsError(f"there is no row {kind!r}: choose from {', '.join(KINDS)}")
    emotions, speakers = clips.emotions, clips.speakers
    everything = np.arange(len(emotions))
    plain = Trial(clips.vectors["clean"], emotions, speakers, everything, everything, clips.recordings)
    if kind == HEARD:
        if clips.heard is None:
            return []
        kept = np.flatnonzero(clips.heard != "")
        return [replace(plain, emotions=clips.heard, search=kept)]
    if kind == TELEPHONE:
        return [replace(plain, vectors=clips.vectors[TELEPHONE])] if TELEPHONE in clips.vectors else []
    if kind == ONE_MOOD:
        each = (splits.one_mood_per_voice(emotions, speakers, seed + draw) for draw in range(draws))
        return [replace(plain, fit=kept, search=kept) for kept in each]
    if kind == CALLS:
        composed = (splits.composed_calls(emotions, speakers, seed + draw) for draw in range(min(draws, CALL_DRAWS)))
        return [
            replace(plain, fit=each.items.reshape(-1), search=each.items.reshape(-1), calls=each) for each in composed
        ]
    if kind in MIXES:
        emotion, share = MIXES[kind]
        named = next((each for each in np.unique(emotions).tolist() if adjective(str(each)) == emotion), emotion)
        split = splits.skewed(emotions, named, share, seed)
        return [replace(plain, fit=split.fit, search=split.search)]
    return [plain]


def _row(name: str, parts: Sequence[Trial], adapt: Adapt, seed: int, raw: _Raw) -> YardstickRow:
    """Return one row: the mean over the queries of one or more trials.

    Raises:
        TooFewExamples: no query has anything to find.
    """
    pairs = [(_ranked(trial, adapt, seed), raw.ranked(trial)) for trial in parts]
    speakers = np.concatenate([_speakers(trial)[ours.queries] for trial, (ours, _) in zip(parts, pairs, strict=True)])
    if not speakers.size:
        raise TooFewExamples("no emotion has two speakers - label more clips, or name who speaks in them")
    groups = np.unique(speakers, return_inverse=True)[1].reshape(-1)
    ours, theirs = (np.concatenate([each.average_precision for each in ranked]) for ranked in zip(*pairs, strict=True))
    return YardstickRow(
        name=name,
        map=float(ours.mean()),
        map_interval=interval(ours, groups, seed),
        raw=float(theirs.mean()),
        raw_interval=interval(theirs, groups, seed),
        gain=float((ours - theirs).mean()),
        gain_interval=interval(ours - theirs, groups, seed),
        map_chance=float(np.concatenate([each.chance for each, _ in pairs]).mean()),
        queries=groups.size,
        adapted_on=round(float(np.mean([trial.fit.size for trial in parts]))),
        searched=round(float(np.mean([_speakers(trial).size for trial in parts]))),
    )


class _Raw:
    """Rankings of the encoder's own vectors, each computed once: a mix changes only the clips adapted on."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._made: dict[tuple[int, int, bytes, bool], Ranked] = {}

    def ranked(self, trial: Trial) -> Ranked:
        key = (id(trial.vectors), id(trial.emotions), trial.search.tobytes(), trial.calls is None)
        if key not in self._made:
            self._made[key] = _ranked(trial, adaptation.raw, self._seed)
        return self._made[key]


def _ranked(trial: Trial, adapt: Adapt, seed: int) -> Ranked:
    made = adapt(trial.vectors[trial.fit]).apply(trial.vectors[trial.search])
    if trial.calls is not None:
        return ranking_figures_by(_call_scores(made, trial.calls), trial.calls.emotions, trial.calls.speakers, seed)
    recordings = None if trial.recordings is None else trial.recordings[trial.search]
    return ranking_figures(
        made, trial.emotions[trial.search], trial.speakers[trial.search], seed, recordings=recordings
    )


def _call_scores(made: NDArray[np.float32], calls: ComposedCalls) -> NDArray[np.float32]:
    """Return the score of each pair of calls ``(c, c)``: the mean, over the query's segments, of the best match.

    As `e2vsearch.search.rank` does.
    """
    segments = unit32(made)
    count, length = calls.items.shape
    cosines = (segments @ segments.T).reshape(count, length, count, length)
    scores: NDArray[np.float32] = cosines.max(axis=3).mean(axis=1)
    return scores


def _speakers(trial: Trial) -> Labels:
    """Return the speaker of each item searched."""
    return trial.speakers[trial.search] if trial.calls is None else trial.calls.speakers
