"""Splits of labelled clips that acted corpora hide, as indices: one mood per voice, skewed mixes, composed calls.

Actors speak every emotion, so the mean of a voice is its timbre, and a corpus holds as much anger as calm. A caller is
recorded once, in one mood, and most calls are calm. A projection is adapted without labels on whatever a collection
holds, so it is measured where the clips that it is adapted on are of one mood a voice, or mostly of one emotion.

All draws depend on the labels and the seed alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import TooFewExamples

LEAST_VOICES = 4
"""Of one emotion each: two emotions by two speakers, so that every clip has its emotion in another speaker."""

CALLS_A_VOICE = 6
CLIPS_A_CALL = 6
SECOND_MOOD = 2
"""Clips of another emotion in a call that has two; the others are of its main emotion."""

Items = NDArray[np.int64]
Labels = NDArray[Any]
"""``(n,)``: names or numbers; of speakers, "" is unknown."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The clips that a projection is adapted on, and those that are searched through it, as indices in order."""

    fit: Items  # (f,)
    search: Items  # (s,)


@dataclass(frozen=True, slots=True, eq=False)
class ComposedCalls:
    """Calls composed of clips: each is one channel, and so one speaker."""

    items: Items  # (c, CLIPS_A_CALL) clips in their order
    emotions: Labels  # (c,) of most of its clips
    speakers: Labels  # (c,)


def one_mood_per_voice(emotions: Labels, speakers: Labels, seed: int) -> Items:
    """Return the clips that are left where each speaker keeps one emotion, the emotions spread evenly over speakers.

    With fewer than two speakers for each emotion only some emotions are drawn, so that each has two. Speakers with few
    emotions are assigned first, each the emotion that fewest have; a speaker with none of those drawn is left out, as
    are clips of unknown speakers.

    Args:
        emotions: ``(n,)``.
        speakers: ``(n,)``.
        seed: of the assignment.

    Returns:
        Indices of the clips kept, in order.

    Raises:
        TooFewExamples: fewer than `LEAST_VOICES` voices, or fewer than two emotions.
    """
    rng = np.random.default_rng(seed)
    names, labels = np.unique(speakers[known(speakers)]), np.unique(emotions)
    if names.size < LEAST_VOICES or labels.size < 2:
        raise TooFewExamples(f"{LEAST_VOICES} voices and two emotions are needed, not {names.size} and {labels.size}")
    drawn = rng.permutation(labels)[: names.size // 2]
    shows = {name: drawn[np.isin(drawn, emotions[speakers == name])] for name in rng.permutation(names).tolist()}
    held = dict.fromkeys(drawn.tolist(), 0)
    kept = np.zeros(len(emotions), bool)
    for name, shown in sorted(shows.items(), key=lambda each: len(each[1])):
        if shown.size:
            emotion = min(rng.permutation(shown).tolist(), key=lambda each: held[each])
            held[emotion] += 1
            kept |= (speakers == name) & (emotions == emotion)
    return np.flatnonzero(kept)


def skewed(emotions: Labels, emotion: object, share: float, seed: int) -> Split:
    """Return a split that searches all clips and adapts on all clips of one emotion and few of the others.

    Args:
        emotions: ``(n,)``.
        emotion: the prevailing one.
        share: of it among the clips adapted on, over 0 to 1; 0.8 adds a quarter as many others, 1 none.
        seed: of which others; they are spread evenly over the emotions as the corpus holds them.

    Raises:
        TooFewExamples: no clip is of that emotion, or too few are of others.
    """
    of = emotions == emotion
    rest = np.random.default_rng(seed).permutation(np.flatnonzero(~of))
    rest = rest[np.argsort(emotions[rest], kind="stable")]
    count = round(int(of.sum()) * (1 - share) / share)
    if not of.any():
        raise TooFewExamples(f"no item is labelled {emotion}")
    if count > rest.size:
        raise TooFewExamples(f"{rest.size} items beside {int(of.sum())} of {emotion} are too few for {1 - share:.0%}")
    others = rest[((np.arange(count) + 0.5) * rest.size / max(count, 1)).astype(np.int64)]
    return Split(np.sort(np.concatenate([np.flatnonzero(of), others])), np.arange(len(emotions)))


def composed_calls(emotions: Labels, speakers: Labels, seed: int) -> ComposedCalls:
    """Return calls composed of clips of one speaker each, half of them of one emotion and half of two.

    No clip is in two calls. A speaker has up to `CALLS_A_VOICE`, with main emotions in turn; fewer where clips do not
    suffice.

    Args:
        emotions: ``(n,)``.
        speakers: ``(n,)``; clips of unknown speakers are left out.
        seed: of all draws.

    Raises:
        TooFewExamples: no voice has enough clips of a mood for a call.
    """
    rng = np.random.default_rng(seed)
    items: list[Items] = []
    main_emotions: list[object] = []
    names: list[object] = []
    for name in np.unique(speakers[known(speakers)]).tolist():
        for emotion, clips in _calls_of(np.flatnonzero(speakers == name), emotions, rng):
            items.append(clips)
            main_emotions.append(emotion)
            names.append(name)
    if not items:
        raise TooFewExamples(
            f"no voice has the {CLIPS_A_CALL - SECOND_MOOD} to {CLIPS_A_CALL} clips of one mood of a call"
        )
    return ComposedCalls(np.stack(items), np.array(main_emotions), np.array(names))


def known(speakers: Labels) -> NDArray[np.bool_]:
    """Return which items' speakers are known, ``(n,)``."""
    return np.array([each is not None and each != "" for each in speakers.tolist()], bool)


def _calls_of(own: Items, emotions: Labels, rng: np.random.Generator) -> Iterator[tuple[object, Items]]:
    """Yield the calls of one speaker: their main emotions and their clips, in random order."""
    left = {
        emotion: rng.permutation(own[emotions[own] == emotion]).tolist()
        for emotion in np.unique(emotions[own]).tolist()
    }
    labels = rng.permutation(np.array(list(left), object)).tolist()
    pure = rng.permutation(np.arange(CALLS_A_VOICE) % 2 == 0).tolist()
    begun: list[tuple[object, list[int]]] = []  # main emotions first, so that no second one takes their clips
    for number, alone in enumerate(pure):
        emotion = labels[number % len(labels)]
        wanted = CLIPS_A_CALL if alone else CLIPS_A_CALL - SECOND_MOOD
        if len(left[emotion]) >= wanted:
            begun.append((emotion, [left[emotion].pop() for _ in range(wanted)]))
    for emotion, clips in begun:
        if len(clips) < CLIPS_A_CALL:
            others = [other for other, rest in left.items() if other != emotion and len(rest) >= SECOND_MOOD]
            if not others:
                continue
            second = others[int(rng.integers(len(others)))]
            clips += [left[second].pop() for _ in range(SECOND_MOOD)]
        yield emotion, rng.permutation(np.array(clips, np.int64))
