"""Splits against plain counts: one mood per voice, mixes of an exact share, calls of one voice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation import splits
from e2vsearch.errors import TooFewExamples

MOODS = ("angry", "calm", "neutral", "sad")


def corpus(voices: int, each: int, moods: tuple[str, ...] = MOODS) -> tuple[NDArray[Any], NDArray[Any]]:
    """Emotions and speakers of `each` clips of every mood by every voice, in an order of chance."""
    pairs = [(mood, f"v{voice}") for voice in range(voices) for mood in moods for _ in range(each)]
    order = np.random.default_rng(1).permutation(len(pairs))
    emotions, speakers = (np.array(column)[order] for column in zip(*pairs, strict=True))
    return emotions, speakers


@pytest.mark.parametrize("voices", [4, 8, 10, 15])
def test_each_voice_keeps_one_mood_and_moods_are_spread_evenly(voices: int) -> None:
    emotions, speakers = corpus(voices, 3)
    for seed in range(5):
        kept = splits.one_mood_per_voice(emotions, speakers, seed)
        moods = {voice: set(emotions[kept][speakers[kept] == voice]) for voice in np.unique(speakers).tolist()}
        assert all(len(each) == 1 for each in moods.values())
        held = Counter(mood for each in moods.values() for mood in each)
        assert len(held) == min(len(MOODS), voices // 2)
        assert max(held.values()) - min(held.values()) <= 1
        assert min(held.values()) >= 2
        every = [at for at in range(len(emotions)) if emotions[at] in moods[speakers[at]]]
        assert kept.tolist() == every


def test_draws_differ_by_seed_alone() -> None:
    emotions, speakers = corpus(8, 3)
    draws = [splits.one_mood_per_voice(emotions, speakers, seed).tolist() for seed in (0, 0, 1, 2)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2] != draws[3]


def test_a_voice_keeps_only_a_mood_that_it_shows_and_unknown_voices_none() -> None:
    emotions, speakers = corpus(6, 2)
    emotions[speakers == "v0"] = "calm"
    speakers[speakers == "v1"] = ""
    for seed in range(10):
        kept = splits.one_mood_per_voice(emotions, speakers, seed)
        assert "" not in speakers[kept]
        assert set(emotions[kept][speakers[kept] == "v0"]) <= {"calm"}


@pytest.mark.parametrize(("voices", "moods"), [(3, MOODS), (9, ("calm",))])
def test_too_few_voices_or_moods(voices: int, moods: tuple[str, ...]) -> None:
    with pytest.raises(TooFewExamples, match=f"not {voices} and {len(moods)}"):
        splits.one_mood_per_voice(*corpus(voices, 2, moods), seed=0)


@pytest.mark.parametrize("share", [0.8, 0.5, 1.0])
def test_a_mix_has_the_share_asked_for(share: float) -> None:
    emotions, _ = corpus(5, 4)
    made = splits.skewed(emotions, "angry", share, seed=3)
    mixed = Counter(emotions[made.fit].tolist())
    assert mixed["angry"] == 20
    assert mixed["angry"] / made.fit.size == share
    others = [mixed[mood] for mood in MOODS if mood != "angry"]
    assert max(others) - min(others) <= 1
    assert np.unique(made.fit).size == made.fit.size
    assert made.search.tolist() == list(range(len(emotions)))


def test_a_mix_needs_clips_of_both_sides() -> None:
    emotions, _ = corpus(5, 4)
    with pytest.raises(TooFewExamples, match="no item is labelled proud"):
        splits.skewed(emotions, "proud", 0.8, seed=0)
    with pytest.raises(TooFewExamples, match="1 items beside 8 of angry are too few for 20%"):
        splits.skewed(np.array(["angry"] * 8 + ["calm"]), "angry", 0.8, seed=0)


def test_calls_are_of_one_voice_and_half_of_them_of_one_mood() -> None:
    emotions, speakers = corpus(7, 12)
    made = splits.composed_calls(emotions, speakers, seed=4)
    assert len(made.items) == 7 * splits.CALLS_A_VOICE
    assert np.unique(made.items).size == made.items.size
    assert (speakers[made.items] == made.speakers[:, None]).all()
    moods = [Counter(emotions[items].tolist()).most_common() for items in made.items]
    assert [most[0][0] for most in moods] == made.emotions.tolist()
    sizes = Counter(tuple(count for _, count in most) for most in moods)
    assert sizes == {(6,): len(moods) // 2, (4, 2): len(moods) // 2}
    for voice in np.unique(speakers).tolist():
        assert set(made.emotions[made.speakers == voice].tolist()) == set(MOODS)


def test_calls_are_fewer_where_clips_run_out_and_none_without() -> None:
    emotions, speakers = corpus(3, 5)
    made = splits.composed_calls(emotions, speakers, seed=0)
    assert 0 < len(made.items) < 3 * splits.CALLS_A_VOICE
    assert {len(set(emotions[items])) for items in made.items} == {2}
    with pytest.raises(TooFewExamples, match="4 to 6 clips"):
        splits.composed_calls(*corpus(3, 2), seed=0)
