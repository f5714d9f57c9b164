"""`features.py`: calls of two moods in four orders, and whether their trajectory finds the same order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
from _composed import FIRST, Bench, Call, Corpus, average_precision, collected, compared
from _table import Row
from numpy.typing import NDArray

import e2vsearch
from e2vsearch.analysis.evaluation import ranking
from e2vsearch.analysis.evaluation.metrics import adjective
from e2vsearch.vectors.exact import unit

PAIRS = (("neutral", "anger"), ("neutral", "sadness"), ("happiness", "anger"))
ORDERS = ("ab", "ba", "aba", "bab")
CLIPS = 8  # of a call at most; how many are of which mood is drawn, two at least
FEWEST = 4  # clips of a mood that a voice must have
PARTS = 8  # that a call is cut into where nothing is warped


def trajectories(corpus: Corpus, seed: int = 0) -> Iterator[tuple[str, str, tuple[str, str], str, list[int]]]:
    """Yield a name, a voice, its two moods, their order and the clips, for every call that the corpus has clips for."""
    rng = np.random.default_rng(seed)
    present = set(corpus.emotions.tolist())
    pairs = [pair for pair in PAIRS if present.issuperset(pair)] or [tuple(sorted(present)[:2])]
    number = count()
    for voice in corpus.everyone:
        for one, other in pairs:
            there = {"a": corpus.of_mood(voice, one), "b": corpus.of_mood(voice, other)}
            least = min(own.size for own in there.values())
            if least < FEWEST:
                continue
            clips = min(CLIPS, least + 2)
            for order in ORDERS:
                first = int(rng.integers(2, clips - 1))
                moods = stretches(order, {"a": first, "b": clips - first}, rng)
                drawn = {mood: iter(rng.permutation(own).tolist()) for mood, own in there.items()}
                yield f"call{next(number):04}", voice, (one, other), order, [next(drawn[mood]) for mood in moods]


def stretches(order: str, clips: dict[str, int], rng: np.random.Generator) -> str:
    """Return the mood of each clip: each mood's clips over its stretches, at least one a stretch, the rest drawn."""
    lengths = [1] * len(order)
    for mood, many in clips.items():
        at = [place for place, each in enumerate(order) if each == mood]
        for place in rng.choice(at, many - len(at)).tolist():
            lengths[place] += 1
    return "".join(mood * length for mood, length in zip(order, lengths, strict=True))


def trajectory(bench: Bench) -> Iterator[Row]:
    """Find calls of the same trajectory, among all calls and among those of the same two moods."""
    planned = list(trajectories(bench.corpus))
    truth = {name: (pair, order) for name, _, pair, order, _ in planned}
    calls = [
        Call(name, [bench.corpus.signal(clip) for clip in clips], {"voice": voice})
        for name, voice, _, _, clips in planned
    ]
    with collected(next(bench.folders), bench.encoder, calls) as collection:
        identifiers = {recording.name: recording.id for recording in collection.recordings()}
        parts = {name: in_parts(collection, identifier) for name, identifier in identifiers.items()}
        ways: dict[str, Callable[[str, str], list[str]]] = {
            "plain query": lambda name, where: names(
                collection.query(identifiers[name], k=len(calls), where=where, exact=True)
            ),
            "equal parts": lambda name, _: nearest(parts, name),
            "trajectory": lambda name, where: names(
                collection.query(trajectory=identifiers[name], k=len(calls), where=where, exact=True)
            ),
        }
        everywhere, ordered, first = ({way: list[float]() for way in ways} for _ in range(3))
        random = []
        rng = np.random.default_rng(1)
        own = {voice: [each for each in planned if each[1] == voice] for voice in bench.corpus.everyone}
        asking = [several[at] for several in own.values() for at in rng.permutation(len(several))[: bench.asked]]
        for name, voice, pair, order, _ in asking:
            others = {each for each, speaker, *_ in planned if speaker != voice}
            for way, ask in ways.items():
                found = [each for each in ask(name, f'voice != "{voice}"') if each in others]
                right = np.array([truth[each] == (pair, order) for each in found])
                alike = np.array([truth[each][0] == pair for each in found])
                everywhere[way].append(average_precision(right))
                ordered[way].append(average_precision(right[alike]))
                first[way].append(float(right[:FIRST].mean()))
            wanted = np.array([right.sum()]), np.array([alike.sum()])
            random.append(float(ranking.expected_average_precision(*wanted)[0]))
        voices = [voice for _, voice, *_ in asking]
        head = f"{bench.head}: the same trajectory, {len(asking)} of {len(planned)} calls"
        yield from compared(f"{head}, mAP", everywhere, voices)
        yield from compared(f"{head}, P@{FIRST}", first, voices)
        yield Row(f"{head}, mAP among the same moods: chance", float(np.mean(random)))
        yield from compared(f"{head}, mAP among the same moods", ordered, voices)
        yield from by_name(bench, collection, truth)


def by_name(
    bench: Bench, collection: e2vsearch.Collection, truth: dict[str, tuple[tuple[str, str], str]]
) -> Iterator[Row]:
    """Measure a trajectory of named emotions, beside the same names in no order."""
    found: dict[str, list[float]] = {"emotions": [], "trajectory": []}
    asked = []
    for pair, order in sorted(set(truth.values())):
        words = dict(zip("ab", map(adjective, pair), strict=True))
        if not set(words.values()) <= set(bench.encoder.space.labels):
            continue
        asked.append(f"{pair}{order}")
        references = [f"emotion:{words[mood]}" for mood in order]
        for way, result in (
            ("emotions", collection.query(emotion=dict.fromkeys(words.values(), 1.0), k=len(truth), exact=True)),
            ("trajectory", collection.query(trajectory=references, k=len(truth), exact=True)),
        ):
            found[way].append(average_precision(np.array([truth[hit.name] == (pair, order) for hit in result])))
    if asked:
        yield from compared(f"{bench.head}: trajectory by name, {len(asked)} trajectories, mAP", found, asked)


def in_parts(collection: e2vsearch.Collection, identifier: str) -> NDArray[np.float64]:
    """Return the vector in the middle of each of `PARTS` equal parts of a call's spoken time, ``(PARTS, dim)``."""
    segments = collection.segments(identifier)
    batch = collection.projections.view().source.fetch(
        np.sort([int(each.id.removeprefix("seg:")) for each in segments])
    )
    row = {f"seg:{number}": at for at, number in enumerate(batch.ids.tolist())}
    ends = np.cumsum([each.end_s - each.start_s for each in segments])
    middles = (np.arange(PARTS) + 0.5) / PARTS * ends[-1]
    chosen = [row[segments[at].id] for at in np.searchsorted(ends, middles)]
    return unit(batch.vectors[chosen])


def nearest(parts: dict[str, NDArray[np.float64]], name: str) -> list[str]:
    """All calls by the mean cosine of their parts with those of one."""
    return sorted(parts, key=lambda each: -float((parts[each] * parts[name]).sum()))


def names(result: e2vsearch.QueryResult) -> list[str]:
    """Of the hits, best first."""
    return [hit.name for hit in result]
