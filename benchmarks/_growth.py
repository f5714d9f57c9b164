"""`features.py`: calls of a kind that comes in the last week, and whether `map --anomalies` shows them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from _composed import EVERY, Call, Corpus, Signal, collected
from _table import Row
from numpy.typing import NDArray

import e2vsearch
from e2vsearch.analysis import maps
from e2vsearch.analysis.evaluation.conditions import telephone
from e2vsearch.analysis.maps import chance
from e2vsearch.emotions import NAMELESS
from e2vsearch.encoders import Encoder
from e2vsearch.errors import AnalysisError, MissingExtra
from e2vsearch.projections import unit

BEFORE, RECENT = 120, 40  # calls in four weeks, and in the week after them
QUICK_BEFORE, QUICK_RECENT = 28, 12
CLIPS = 3  # of a call, of which `CHANGED` are of the kind that comes
CHANGED = 2
DRAWS = 3
WEEKS_BEFORE_D, RECENT_D = 28, 7
_FIRST_DAY = datetime(2024, 1, 1, 12, tzinfo=UTC)
_OFTEN = 0.6  # of an everyday mix: calls in the first mood, the others sharing the rest


@dataclass(frozen=True, slots=True)
class Setting:
    """What a collection holds, and what comes to it."""

    mixed: bool  # else all of it is of one mood
    kind: str  # an emotion, "telephone", another corpus's name, or "" for nothing
    share: float  # of the recent calls

    def __str__(self) -> str:
        """For a table."""
        holds = "an everyday mix" if self.mixed else "one mood"
        return f"{holds}, {f'{self.share:.0%} of the last week {self.kind}' if self.kind else 'nothing comes'}"


@dataclass(frozen=True, slots=True)
class Shown:
    """What one way shows of the recent calls."""

    recall: float  # of what came
    precision: float  # NaN where it shows nothing


def rows(corpora: Sequence[Path], encoder: Encoder, folders: Iterator[Path], *, quick: bool) -> Iterator[Row]:
    """Recall and precision in every setting, of the map and of the simpler ways."""
    corpus = Corpus.of(corpora[0], everyone=True)
    others = [Corpus.of(path) for path in corpora[1:]]
    moods = sorted(set(corpus.emotions.tolist()))
    mood = "neutral" if "neutral" in moods else moods[0]
    come = "anger" if "anger" in moods else moods[1]
    settings = [Setting(False, come, 0.25)]
    if not quick:
        settings += [Setting(True, come, 0.25), Setting(False, "telephone", 0.25)]
        settings += [Setting(False, other.name, 0.25) for other in others]
        settings += [Setting(True, "", 0.0)]
    for setting in settings:
        found: dict[str, list[Shown]] = {}
        for seed in range(1 if quick else DRAWS):
            rng = np.random.default_rng(seed)
            calls, planted = drawn(corpus, others, mood, setting, rng, quick=quick)
            with collected(next(folders), encoder, calls) as collection:
                try:
                    shown = measured(collection, planted)
                except (AnalysisError, MissingExtra) as error:
                    print(f"growth, {setting}: left out: {error}", file=sys.stderr)
                    break
            for way, calls_shown in shown.items():
                found.setdefault(way, []).append(judged(calls_shown, planted))
        yield from told(f"growth, {corpus.name}, {setting}", found, setting)


def drawn(
    corpus: Corpus, others: Sequence[Corpus], mood: str, setting: Setting, rng: np.random.Generator, *, quick: bool
) -> tuple[list[Call], set[str]]:
    """Calls with their dates, and the names of those that hold what came. No clip is in two calls."""
    before, recent = (QUICK_BEFORE, QUICK_RECENT) if quick else (BEFORE, RECENT)
    piles = Piles(corpus, rng)
    rest = sorted(set(corpus.emotions.tolist()) - {mood})
    planted = set()
    calls = []
    many = round(setting.share * recent)
    for number in range(before + recent):
        late = number >= before
        changed = late and number < before + many
        day = rng.uniform(WEEKS_BEFORE_D, WEEKS_BEFORE_D + RECENT_D) if late else rng.uniform(0, WEEKS_BEFORE_D)
        own = mood
        if setting.mixed and not changed and rng.random() > _OFTEN:
            own = str(rng.choice(rest))
        voice = piles.voice(own, setting.kind if changed and setting.kind in rest else own)
        signals = piles.take(voice, own, CLIPS)
        if changed:
            signals[-CHANGED:] = changed_to(setting.kind, piles, others, voice, signals, rng)
            planted.add(f"call{number:04}")
        date = (_FIRST_DAY + timedelta(days=day)).isoformat()
        calls.append(Call(f"call{number:04}", signals, {"date": date}))
    return calls, planted


class Piles:
    """Clips of each voice and mood in a drawn order, each taken once; from the start again where there are no more."""

    def __init__(self, corpus: Corpus, rng: np.random.Generator) -> None:
        self.corpus = corpus
        self._order = rng.permutation(corpus.everyone).tolist()
        self._clips = {
            (voice, mood): rng.permutation(corpus.of_mood(voice, mood)).tolist()
            for voice in corpus.everyone
            for mood in set(corpus.emotions.tolist())
        }
        self._taken = dict.fromkeys(self._clips, 0)

    def voice(self, *moods: str) -> str:
        """Of the voices that show all these moods, the one that has been taken least of."""
        able = [each for each in self._order if all(self._clips[each, mood] for mood in moods)]
        return str(min(able, key=lambda each: sum(self._taken[each, mood] for mood in moods)))

    def take(self, voice: str, mood: str, count: int) -> list[Signal]:
        """The next clips."""
        pile, first = self._clips[voice, mood], self._taken[voice, mood]
        self._taken[voice, mood] += count
        return [self.corpus.signal(pile[at % len(pile)]) for at in range(first, first + count)]


def changed_to(
    kind: str,
    piles: Piles,
    others: Sequence[Corpus],
    voice: str,
    signals: Sequence[Signal],
    rng: np.random.Generator,
) -> list[Signal]:
    """The clips of a call that are of the kind that comes."""
    if kind == "telephone":
        return [telephone(signal, rng) for signal in signals[-CHANGED:]]
    for other in others:
        if other.name == kind:
            calm = np.flatnonzero(other.emotions == "neutral")
            return [other.signal(int(clip)) for clip in rng.choice(calm, CHANGED, replace=False)]
    return piles.take(voice, kind, CHANGED)


def measured(collection: e2vsearch.Collection, planted: set[str]) -> dict[str, set[str]]:
    """The names of the recent calls that each way shows.

    Raises:
        AnalysisError: there are too few calls for a map.
        MissingExtra: the packages of the extra `map` are not installed.
    """
    drawn_map = maps.make(collection)
    known = {recording.id: recording.name for recording in collection.find(where=EVERY)}
    segments = {name: collection.segments(identifier) for identifier, name in known.items()}
    until = (_FIRST_DAY + timedelta(days=WEEKS_BEFORE_D + RECENT_D)).replace(hour=12)
    grown = [each.cluster for each in maps.anomalies(drawn_map, RECENT_D, WEEKS_BEFORE_D, until=until) if each.unusual]
    since = np.datetime64(_FIRST_DAY.replace(tzinfo=None) + timedelta(days=WEEKS_BEFORE_D), "s")
    late = drawn_map.recorded_at >= since
    recent = {known[f"call:{number}"] for number in np.unique(drawn_map.recordings[late]).tolist()}
    inside = late & np.isin(drawn_map.cluster, grown)
    of_map = {known[f"call:{number}"] for number in np.unique(drawn_map.recordings[inside]).tolist()}
    emotions = {name: {each.emotion for each in own} for name, own in segments.items()}
    return {
        "distance from the mean": farthest(collection, segments, recent, len(planted)),
        "named emotions": by_names(emotions, recent),
        "map": of_map,
    }


def farthest(
    collection: e2vsearch.Collection, segments: Mapping[str, Sequence[object]], recent: set[str], many: int
) -> set[str]:
    """The recent calls that hold what is farthest from the mean of those before; as many as came, which it is told."""
    numbers = {
        name: [int(str(getattr(each, "id", "")).removeprefix("seg:")) for each in own] for name, own in segments.items()
    }
    ids = np.sort(np.concatenate([np.array(each, np.int64) for each in numbers.values()]))
    batch = collection.feed().fetch(ids)
    units = dict(zip(batch.ids.tolist(), unit(batch.vectors), strict=True))
    mean = unit(np.mean([units[at] for name, own in numbers.items() if name not in recent for at in own], axis=0))
    # a call holds three clips, of which two are of what came: its farthest segment tells
    least = {name: min(float(units[at] @ mean) for at in numbers[name]) for name in recent if numbers[name]}
    return set(sorted(least, key=least.__getitem__)[:many])


def by_names(emotions: Mapping[str, set[str | None]], recent: set[str]) -> set[str]:
    """The recent calls with an emotion that grew, by the map's own test on counts of calls."""
    named = sorted({name for of in emotions.values() for name in of if name and name not in NAMELESS})
    counts = [
        [sum(name in of for call, of in emotions.items() if (call in recent) is late) for late in (True, False)]
        for name in named
    ]
    exposure = len(recent), len(emotions) - len(recent)
    p = chance.corrected([chance.grew(now, before, *exposure) for now, before in counts])
    grown = {name for name, each in zip(named, p.tolist(), strict=True) if each < chance.UNUSUAL}
    return {call for call in recent if emotions[call] & grown}


def judged(shown: set[str], planted: set[str]) -> Shown:
    """How much of what came is shown, and how much of what is shown came."""
    right = len(shown & planted)
    return Shown(right / len(planted) if planted else 0.0, right / len(shown) if shown else np.nan)


def told(head: str, found: Mapping[str, Sequence[Shown]], setting: Setting) -> Iterator[Row]:
    """Means over the draws, with their least and greatest."""
    for way, each in found.items():
        precision = np.array([one.precision for one in each])
        if not setting.kind:
            if way != "distance from the mean":  # it is told how many to show
                alarms = float(np.isfinite(precision).mean())
                yield Row(f"{head}: {way}, share of {len(each)} draws in which anything is shown", alarms)
            continue
        recall = np.array([one.recall for one in each])
        yield Row(f"{head}: {way}, recall", float(recall.mean()), _range(recall))
        shown = precision[np.isfinite(precision)]
        if shown.size:
            of = f"of {shown.size} draws that show anything" if shown.size < len(each) else ""
            yield Row(f"{head}: {way}, precision", float(shown.mean()), f"{_range(shown)} {of}".strip())


def _range(values: NDArray[np.float64]) -> str:
    return f"({values.min():.2f} to {values.max():.2f})" if values.size > 1 else ""
