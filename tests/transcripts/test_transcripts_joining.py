"""Cues to segments: by time, channel and speaker, with no word lost."""

# ruff: noqa: RUF001 - texts of many scripts, full-width letters among them

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from e2vsearch.errors import TranscriptError
from e2vsearch.ingest.transcripts.alignment import join
from e2vsearch.ingest.transcripts.formats import Cue, Transcript
from e2vsearch.types import Segment


def segments(*spans: tuple[int, float, float]) -> list[tuple[int, Segment]]:
    """Segments ``(channel, start_s, end_s)``, numbered from 1."""
    return [
        (number, Segment(f"seg:{number}", "call:1", channel, start_s, end_s, None, None, {}))
        for number, (channel, start_s, end_s) in enumerate(spans, start=1)
    ]


def joined(cues: list[Cue], *spans: tuple[int, float, float], channels: int = 1) -> tuple[dict[int, str], int]:
    result = join(Transcript(Path("a.srt"), tuple(cues)), segments(*spans), channels)
    return result.said, result.left_out


def test_a_cue_goes_to_its_segment() -> None:
    cues = [Cue(0.9, 3.0, "Hello there"), Cue(6.1, 8.2, "I want\n  a refund")]
    assert joined(cues, (0, 1.0, 3.1), (0, 6.0, 8.0)) == ({1: "Hello there", 2: "I want a refund"}, 0)


def test_a_cue_over_two_segments_is_split_in_proportion() -> None:
    said, left_out = joined([Cue(0.0, 10.0, "a b c d e f g h i j")], (0, 0.0, 6.0), (0, 6.0, 10.0))
    assert said == {1: "a b c d e f", 2: "g h i j"}
    assert left_out == 0
    said, _ = joined([Cue(0.0, 12.0, "一二三四五，六七八九十。")], (0, 0.0, 5.0), (0, 7.0, 12.0))
    assert said == {1: "一二三四五，", 2: "六七八九十。"}


def test_words_with_times_go_by_them() -> None:
    timed = ((0.0, 0.5, " I"), (0.5, 1.0, " want"), (6.0, 6.5, " a"), (6.5, 7.0, " re"), (7.0, 7.2, "fund."))
    said, _ = joined([Cue(0.0, 7.2, " I want a refund.", timed)], (0, 0.0, 1.2), (0, 5.9, 8.0))
    assert said == {1: "I want", 2: "a refund."}
    apart = [Cue(at, at + 0.5, word, ((at, at + 0.5, word),)) for at, word in enumerate(["我要", "退", "款", "please"])]
    assert joined(apart, (0, 0.0, 9.0))[0] == {1: "我要退款 please"}


def test_words_in_silence_go_to_the_nearest_segment_or_are_counted() -> None:
    near = Cue(3.2, 3.9, "near")
    of_cue = Cue(4.0, 9.0, "x x x y", ((4.0, 4.5, "far"), (8.0, 9.0, "inside")))
    nowhere = Cue(30.0, 32.0, "two words")
    assert joined([near, of_cue, nowhere], (0, 1.0, 3.0), (0, 7.5, 9.0)) == ({1: "near", 2: "far inside"}, 2)
    with pytest.raises(TranscriptError, match="is it of this recording"):
        joined([nowhere], (0, 1.0, 3.0))
    with pytest.raises(TranscriptError, match="is it of this recording"):
        joined([nowhere])
    assert joined([], (0, 1.0, 3.0)) == ({}, 0)


def test_a_named_channel_is_respected() -> None:
    both = ((0, 0.0, 5.0), (1, 0.0, 5.0))
    cues = [Cue(0.0, 2.0, "left", channel=0), Cue(1.0, 3.0, "right", channel=1)]
    assert joined(cues, *both, channels=2)[0] == {1: "left", 2: "right"}
    # a mix in one channel, whatever the transcript calls it; and a channel that the recording does not have
    assert joined(cues, (0, 0.0, 5.0), channels=1)[0] == {1: "left right"}
    assert joined([Cue(0.0, 2.0, "seven", channel=7)], *both, channels=2)[0] == {1: "seven"}
    # nobody speaks there
    assert joined([*cues, Cue(3.0, 4.0, "lost", channel=1)], (0, 0.0, 5.0), channels=2) == ({1: "left"}, 2)


def test_speakers_find_their_channel() -> None:
    spans = ((0, 0.0, 4.0), (1, 4.0, 8.0), (0, 8.0, 12.0), (1, 8.5, 11.5))
    cues = [
        Cue(0.1, 3.9, "agent one", speaker="A"),
        Cue(4.1, 7.9, "customer one", speaker="C"),
        Cue(8.6, 11.4, "customer two", speaker="C"),  # both speak: by time alone nobody could tell
        Cue(8.6, 11.4, "agent two", speaker="A"),
    ]
    said, _ = joined(cues, *spans, channels=2)
    assert said == {1: "agent one", 2: "customer one", 3: "agent two", 4: "customer two"}


def test_a_cue_of_nobody_goes_to_the_channel_it_overlaps_most() -> None:
    said, _ = joined([Cue(1.0, 5.0, "whose is it")], (0, 0.0, 2.0), (1, 0.5, 6.0), channels=2)
    assert said == {2: "whose is it"}


def test_text_without_times() -> None:
    plain = Transcript(Path("a.txt"), untimed="one two three four five six\nseven eight nine ten")
    one = join(plain, segments((0, 3.0, 4.0)), 1)
    assert one.said == {1: "one two three four five six seven eight nine ten"}
    spread = join(plain, segments((0, 0.0, 6.0), (0, 10.0, 14.0)), 1)
    assert list(spread.said) == [1, 2]
    assert " ".join(spread.said.values()) == one.said[1]
    assert len(spread.said[1]) == pytest.approx(0.6 * len(one.said[1]), abs=4)
    with pytest.raises(TranscriptError, match="2 channels speak"):
        join(plain, segments((0, 0.0, 6.0), (1, 10.0, 14.0)), 2)
    with pytest.raises(TranscriptError, match="no speech"):
        join(plain, [], 1)


def test_no_word_is_lost_or_moved() -> None:
    rng = random.Random(0)
    for _ in range(200):
        ends = sorted(rng.uniform(0, 60) for _ in range(2 * rng.randint(1, 8)))
        spans = [(0, start_s, end_s) for start_s, end_s in zip(ends[::2], ends[1::2], strict=True)]
        number = itertools.count()
        cues = []
        for start_s in sorted(rng.uniform(0, 55) for _ in range(rng.randint(1, 6))):
            text = " ".join(f"w{next(number)}" for _ in range(rng.randint(1, 9)))
            cues.append(Cue(start_s, start_s + rng.uniform(0, 6), text))
        try:
            said, left_out = joined(cues, *spans)
        except TranscriptError:
            continue
        found = [word for segment in sorted(said) for word in said[segment].split()]
        assert len(found) == len(set(found)) == next(number) - left_out
