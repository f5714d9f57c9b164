"""Transcripts: every format to cues, words to segments, and what is said as a filter, the same on both databases."""

# ruff: noqa: RUF001 - texts of many scripts, full-width letters among them

from __future__ import annotations

import itertools
import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import call, damaged, save, silence, speech
from sqlalchemy import select, text

import e2vsearch
from e2vsearch.catalog import Catalog, NewRecording, NewSegment, Segment, texts
from e2vsearch.catalog.tables import SegmentRow
from e2vsearch.catalog.texts import words_of
from e2vsearch.errors import BadFilter, SettingsError, TranscriptError
from e2vsearch.ingest import Collection
from e2vsearch.ingest.cues import Cue, Transcript, read
from e2vsearch.ingest.transcripts import TranscriptFolder, join
from e2vsearch.space import Space

VTT = """WEBVTT - a call

STYLE
::cue { color: red }

NOTE of the
person who typed it

intro
00:01.000 --> 00:04.000 align:start position:10%
<v Agent>Hello <i>there</i> &amp; welcome</v>
<v.loud Customer Kim>I want a refund

NOTE in between

00:00:05.000 --> 01:00:06.500
- plain <00:00:05.500><c.x>karaoke</c>
"""
SRT = """1
00:00:01,000 --> 00:00:04,000
<font color="red">Hello</font> <b>you</b>

2
00:00:05,000 --> 00:00:06,000 X1:1
First line

after an empty one
3
0:07.5 --> 0:08.5
{\\an8}3 < 4

4
00:00:09,000 --> 00:00:10,000

5
00:00:11,000 --> 00:00:12,000
the end"""


def words(*timed: tuple[float, float, str]) -> list[dict[str, Any]]:
    return [{"start": start_s, "end": end_s, "word": word} for start_s, end_s, word in timed]


SHAPES: dict[str, tuple[Any, list[Cue]]] = {
    "whisper": (
        {"text": " Hi you", "segments": [{"id": 0, "start": 0.5, "end": 2.0, "text": " Hi you", "tokens": [1]}]},
        [Cue(0.5, 2.0, " Hi you")],
    ),
    "whisper with words": (
        {"segments": [{"start": 0, "end": 2, "text": " Hi", "words": words((0.1, 0.4, " Hi"))}]},
        [Cue(0, 2, " Hi", ((0.1, 0.4, " Hi"),))],
    ),
    "a bare list": ([{"start": 1, "end": 2, "text": "Hi", "channel": 1}], [Cue(1, 2, "Hi", channel=1)]),
    "whisperx": (
        {
            "segments": [
                {
                    "start": 1.0,
                    "end": 3.0,
                    "text": "It costs 5",
                    "speaker": "SPEAKER_01",
                    "words": [*words((1.0, 1.5, "It"), (1.6, 2.0, "costs")), {"word": "5"}],
                }
            ],
            "word_segments": [],
        },
        [
            Cue(
                1.0,
                3.0,
                "It costs 5",
                ((1.0, 1.5, "It"), (1.6, 2.0, "costs"), (2.0, 2.0, "5")),
                speaker="SPEAKER_01",
            )
        ],
    ),
    "openai words alone": (
        {"text": "Hi you", "words": words((0.0, 0.5, "Hi"), (0.6, 1.0, "you"))},
        [Cue(0.0, 0.5, "Hi", ((0.0, 0.5, "Hi"),)), Cue(0.6, 1.0, "you", ((0.6, 1.0, "you"),))],
    ),
    "whisper.cpp": (
        {"transcription": [{"offsets": {"from": 500, "to": 1500}, "text": " Hi", "timestamps": {}}]},
        [Cue(0.5, 1.5, " Hi")],
    ),
    "funasr": (
        [{"key": "a", "text": "你好", "sentence_info": [{"text": "你好", "start": 500, "end": 1500, "spk": 1}]}],
        [Cue(0.5, 1.5, "你好", speaker="1")],
    ),
    "deepgram": (
        {
            "results": {
                "channels": [
                    {"alternatives": [{"words": [{"start": 0.1, "end": 0.5, "word": "hi", "punctuated_word": "Hi."}]}]},
                    {"alternatives": [{"words": words((1.0, 1.5, "bye"))}]},
                ]
            }
        },
        [Cue(0.1, 0.5, "Hi.", ((0.1, 0.5, "Hi."),), 0), Cue(1.0, 1.5, "bye", ((1.0, 1.5, "bye"),), 1)],
    ),
    "aws": (
        {
            "results": {
                "items": [
                    {
                        "type": "pronunciation",
                        "start_time": "0.1",
                        "end_time": "0.5",
                        "alternatives": [{"content": "Hi"}],
                        "channel_label": "ch_1",
                    },
                    {"type": "punctuation", "alternatives": [{"content": "!"}], "channel_label": "ch_1"},
                    {
                        "start_time": "1",
                        "end_time": "2",
                        "alternatives": [{"content": "you"}],
                        "speaker_label": "spk_0",
                    },
                ]
            }
        },
        [Cue(0.1, 0.5, "Hi!", ((0.1, 0.5, "Hi!"),), 1), Cue(1.0, 2.0, "you", ((1.0, 2.0, "you"),), speaker="spk_0")],
    ),
    "nothing said": ({"text": "", "segments": []}, []),
}


def put(path: Path, content: str | bytes | object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, str | bytes) else json.dumps(content, ensure_ascii=False)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_json(shape: str, tmp_path: Path) -> None:
    content, cues = SHAPES[shape]
    assert list(read(put(tmp_path / "a.json", content)).cues) == cues


def test_webvtt(tmp_path: Path) -> None:
    agent, customer, plain = read(put(tmp_path / "a.vtt", VTT)).cues
    assert (agent.speaker, agent.text.strip()) == ("Agent", "Hello there & welcome")
    assert (customer.speaker, customer.text.strip()) == ("Customer Kim", "I want a refund")
    assert (agent.start_s, customer.end_s) == (1.0, 4.0)
    assert agent.end_s == customer.start_s
    assert (plain.start_s, plain.end_s, plain.text.strip()) == (5.0, 3606.5, "- plain karaoke")


@pytest.mark.parametrize(
    "content",
    [
        SRT,
        SRT.replace("\n", "\r\n"),
        SRT.replace("\n", "\r"),
        "\ufeff" + SRT,
        SRT.encode("utf-16"),
        SRT.removeprefix("1\n"),
    ],
    ids=["plain", "crlf", "cr", "bom", "utf-16", "no first number"],
)
def test_subrip(content: str | bytes, tmp_path: Path) -> None:
    cues = read(put(tmp_path / "a.srt", content)).cues
    assert [(cue.start_s, cue.end_s, " ".join(cue.text.split())) for cue in cues] == [
        (1.0, 4.0, "Hello you"),
        (5.0, 6.0, "First line after an empty one"),
        (7.5, 8.5, "3 < 4"),
        (11.0, 12.0, "the end"),
    ]


BROKEN: dict[str, tuple[str, str | bytes | object, str]] = {
    "gbk": (".srt", "1\n00:00:01,000 --> 00:00:02,000\n退款".encode("gb18030"), "iconv"),
    "no times": (".srt", "hello", "00:00:01,000"),
    "backwards": (".srt", "1\n00:00:05,000 --> 00:00:02,000\nhello", "mend its times"),
    "cut json": (".json", '{"segments": [', "no JSON"),
    "deep json": (".json", "[" * 100_000, "no JSON"),
    "a word": (".json", '"hello"', "no shape"),
    "other json": (".json", {"agent": "Kim"}, "no shape"),
    "no start": (".json", [{"text": "hello"}], "no shape"),
    "times that are none": (".json", '[{"text": "hello", "start": NaN, "end": 2}]', "mend its times"),
    "negative": (".json", [{"text": "hello", "start": -1, "end": 2}], "mend its times"),
    "numbers": (".json", [1, 2], "no shape"),
    "text that is none": (".json", {"text": {"a": 1}}, "no shape"),
    "words that are none": (".json", {"segments": [{"start": 0, "end": 1, "text": "a", "words": 3}]}, "no shape"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_transcripts_say_so_in_one_line(name: str, tmp_path: Path) -> None:
    suffix, content, says = BROKEN[name]
    path = put(tmp_path / f"a{suffix}", content)
    with pytest.raises(TranscriptError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(TranscriptError, match="cannot be read"):
        read(tmp_path / "none.srt")


# ---------------------------------------------------------------------------------------------------------- joining


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


# ------------------------------------------------------------------------------------------------------- by name


def test_which_transcript_is_whose(tmp_path: Path) -> None:
    folder = tmp_path / "said"
    for name in (
        "a.srt",
        "monday/a.srt",
        "b.wav.vtt",
        "c.json",
        "c.srt",
        "c.txt",
        "odd.name.srt",
        ".hidden.srt",
        "x.md",
    ):
        put(folder / name, "1\n00:00:01,000 --> 00:00:02,000\nhello" if name != "c.json" else "{}")
    calls = tmp_path / "calls"
    named = ("a.wav", "monday/a.wav", "b.wav", "c.mp3", "odd.name.flac", "none.wav")
    found = TranscriptFolder(folder, [calls / name for name in named])

    def of(name: str) -> str | None:
        match = found.find(calls / name)
        return None if match is None else str(match.path.relative_to(folder))

    assert [of(name) for name in named] == ["a.srt", "monday/a.srt", "b.wav.vtt", "c.srt", "odd.name.srt", None]
    assert found.unused() == 0
    assert TranscriptFolder(folder, [calls / "a.wav"]).unused() == 4
    with pytest.raises(SettingsError, match="no folder"):
        TranscriptFolder(tmp_path / "nowhere", [])


def test_one_transcript_for_two_recordings(tmp_path: Path) -> None:
    put(tmp_path / "said" / "a.srt", SRT)
    two = [tmp_path / "monday" / "a.wav", tmp_path / "friday" / "a.wav"]
    match = TranscriptFolder(tmp_path / "said", two).find(two[0])
    assert match is not None
    assert "fits a recording in" in str(match.error)
    # beside the one, it is not the other's
    put(tmp_path / "a.srt", SRT)
    both = [tmp_path / "a.wav", tmp_path / "monday" / "a.wav"]
    beside = TranscriptFolder(tmp_path, both)
    assert beside.find(both[0]) is not None
    assert beside.find(both[1]) is None
    # two formats of one recording in one folder share it
    same = [tmp_path / "monday" / "a.wav", tmp_path / "monday" / "a.mp3"]
    assert TranscriptFolder(tmp_path / "said", same).find(same[1]).transcript is not None  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------------- ingesting


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A call of two turns, one of two channels, and silence."""
    folder = tmp_path_factory.mktemp("calls")
    turns = [speech(3.0, seed=1), silence(1.5), speech(3.0, seed=2)]
    save(folder / "mono.wav", np.concatenate(turns))
    save(folder / "pair.wav", call([(0, 0.5, 4.0), (1, 5.0, 9.0)], 10.0))
    save(folder / "quiet.wav", silence(3.0))
    return folder


def srt(*cues: tuple[float, float, str]) -> str:
    def clock(seconds: float) -> str:
        return f"00:00:{int(seconds):02d},{round(seconds % 1 * 1000):03d}"

    return "\n\n".join(f"{at}\n{clock(a)} --> {clock(b)}\n{text}" for at, (a, b, text) in enumerate(cues, start=1))


def said_in(collection: Collection, name: str) -> list[str | None]:
    return [segment.text for segment in collection.segments(collection.find(where=f"name = {name}")[0].id)]


def test_ingest_joins_and_joins_again(database_url: str, calls: Path, tmp_path: Path) -> None:
    folder = tmp_path / "said"
    put(folder / "mono.srt", srt((0.2, 2.9, "Good morning"), (4.5, 7.4, "I want a refund")))
    put(
        folder / "pair.vtt",
        "WEBVTT\n\n00:00.600 --> 00:03.900\n<v Agent>Hello\n\n00:05.100 --> 00:08.900\n<v Kim>Angry!",
    )
    put(folder / "quiet.srt", "")
    put(folder / "stranger.srt", SRT)
    with e2vsearch.open(database_url, encoder="fake") as collection:
        report = collection.ingest(calls, transcripts=folder)
        assert (report.stored, report.transcripts, report.unused_transcripts, report.failures) == (3, 3, 1, ())
        assert said_in(collection, "mono") == ["Good morning", "I want a refund"]
        assert said_in(collection, "pair") == ["Hello", "Angry!"]
        assert collection.status().transcribed == 4

        put(folder / "mono.srt", srt((4.5, 7.4, "Never mind")))
        again = collection.ingest(calls, transcripts=folder)
        assert (again.already, again.stored, again.transcripts) == (3, 0, 3)
        assert said_in(collection, "mono") == [None, "Never mind"]
        assert texts.saying(collection.catalog, "refund").tolist() == []
        assert collection.ingest(calls).transcripts == 0  # what was joined stays
        assert said_in(collection, "mono") == [None, "Never mind"]

        assert collection.remove(where="name = mono") == 1
        assert texts.saying(collection.catalog, "mind").tolist() == []
        assert collection.status().transcribed == 2


def test_transcripts_beside_the_audio_of_a_stored_call(calls: Path, tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", encoder="fake") as collection:
        collection.ingest(calls / "mono.wav")
        put(calls / "mono.txt", "word " * 20)
        try:
            rehearsed = collection.ingest(calls, transcripts=calls, dry_run=True)
            assert (rehearsed.already, rehearsed.transcripts) == (1, 1)
            assert said_in(collection, "mono") == [None, None]
            report = collection.ingest(calls / "mono.wav", transcripts=calls)
        finally:
            (calls / "mono.txt").unlink()
        assert (report.already, report.audio_s, report.transcripts) == (1, 0.0, 1)
        assert sum(len(str(text).split()) for text in said_in(collection, "mono")) == 20


def test_broken_transcripts_never_stop_the_rest(database_url: str, calls: Path, tmp_path: Path) -> None:
    folder = tmp_path / "said"
    put(folder / "mono.json", "{")
    put(folder / "pair.txt", "nobody knows who says this")
    put(folder / "bad.srt", SRT)
    bad = damaged("text-as-wav", tmp_path).rename(tmp_path / "bad.wav")
    with e2vsearch.open(database_url, encoder="fake") as collection:
        report = collection.ingest(calls, bad, transcripts=folder)
        assert (report.stored, report.transcripts) == (3, 0)
        failed = {Path(failure.uri).name: failure.reason for failure in report.failures}
        assert failed == {"mono.json": "transcript", "pair.txt": "transcript", "bad.wav": "not-audio"}
        assert {Path(failure.uri).name for failure in collection.failures()} == set(failed)
        put(folder / "mono.srt", srt((0.2, 2.9, "Good morning")))  # one that can be read is enough
        put(folder / "mono.json", {"segments": [{"start": 0.2, "end": 2.9, "text": "Good day"}]})
        again = collection.ingest(calls, transcripts=folder)
        assert said_in(collection, "mono")[0] == "Good day"
        assert [Path(failure.uri).name for failure in again.failures] == ["pair.txt"]
        assert {Path(failure.uri).name for failure in collection.failures()} == {"pair.txt", "bad.wav"}


# ------------------------------------------------------------------------------------------------------ what is said


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Don't stop!", "don t stop"),
        ("ÄRGER naïve Straße ﬁne", "arger naive strasse fine"),
        ("Ｆｕｌｌ　ｗｉｄｔｈ １２３", "full width 123"),
        ("我要退款refund吗？", "我 要 退 款 refund 吗"),
        ("返金してください", "返 金 し て く だ さ い"),
        ("마음에 안 들어요", "마음에 안 들어요"),
        ("ฉันโกรธ", "ฉั น โ ก ร ธ"),
        ("हिन्दी में", "हिन्दी में"),
        ("мой счёт а́", "мой счёт а"),
        ("foo_bar a.b@c.de 3,50 €", "foo bar a b c de 3 50"),
        ("½ … 😀", "1 2"),
        ("x" * 300, "x" * 255),
    ],
)
def test_words(said: str, words: str) -> None:
    assert " ".join(words_of(said)) == words


class Said:
    """A catalog of one recording, a text in each segment."""

    def __init__(self, url: str, said: list[str]) -> None:
        self.catalog = Catalog.open(url, create=True)
        self.catalog.pin(Space("saved", "made", 2), "saved")
        when = datetime(2024, 3, 1, tzinfo=UTC)
        one = np.ones(2, np.float32)
        made = tuple(NewSegment(at % 2, float(at), at + 1.0, one) for at in range(len(said)))
        row = NewRecording("/a.wav", "a", "f" * 64, 1, 1, when, 1.0, 2, 8000, "WAV", made)
        self.recording = self.catalog.store(row).id
        self.ids = self.catalog.segments_of([self.recording])[0].tolist()
        texts.put(self.catalog, self.recording, dict(zip(self.ids, said, strict=True)))

    def find(self, query: str, where: str | None = None) -> list[int]:
        """Which of the texts, from 0, match."""
        return [self.ids.index(number) for number in texts.saying(self.catalog, query, where).tolist()]


@pytest.fixture
def said(database_url: str) -> Iterator[Said]:
    made = Said(
        database_url,
        [
            "I want a refund, now!",
            "My credit card was refunded twice. Don't say thanks.",
            "Thanks for your card",
            "我要退款，因为质量太差",
            "",
            "Card: credit only",
            'AND OR NOT NEAR("a" b) * refund:* <->',
        ],
    )
    yield made
    made.catalog.close()


SAID = [
    ("refund", [0, 6]),
    ("REFUND!", [0, 6]),
    ("refund*", [0, 1, 6]),
    ("card credit", [1, 5]),
    ('"credit card"', [1]),
    ("“credit card”", [1]),
    ("card -credit", [2]),
    ("-card", [0, 3, 6]),
    ('card -"credit card"', [2, 5]),
    ("refund* -thank*", [0, 6]),
    ("don't", [1]),
    ("退款", [3]),
    ("款退", []),
    ("质量 退款", [3]),
    ("退*", [3]),
    ("nothing", []),
    ("AND", [6]),
    ("near OR not", [6]),
    ("refund or", [6]),
    ('"" refund ?', [0, 6]),
]


def test_what_is_said(said: Said) -> None:
    assert [(query, said.find(query)) for query, _ in SAID] == SAID


def test_what_is_said_and_a_filter(said: Said) -> None:
    assert said.find("refund*", "channel = 0") == [0, 6]
    assert said.find("refund*", "channel = 1") == [1]
    with pytest.raises(BadFilter, match="nothing here is called"):
        said.find("refund", "nonsense = 1")


def test_a_query_without_words(said: Said) -> None:
    for query, says in (("", "no word"), ("?!", "no word"), ('"', "few"), ('a "b', "few")):
        with pytest.raises(BadFilter, match=says):
            said.find(query)


def test_both_databases_answer_alike(postgres_url: str, tmp_path: Path) -> None:
    """Random scraps of everything that means something to FTS5, to tsquery or to Unicode, asked of each other."""
    import psycopg

    rng = random.Random(0)
    alphabet = "aaeE1x05 .-_'é你好हिÄß\u0301ж*\"\\&|!():<>^{}\x00\ud800"

    def scrap(most: int) -> str:
        return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, most)))

    scraps = [scrap(14) for _ in range(200)]
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE alike TEMPLATE template0")
        try:
            both = [
                Said(url, scraps)
                for url in (f"sqlite:///{tmp_path / 'c.db'}", postgres_url.replace("/postgres?", "/alike?"))
            ]
            answered = 0
            for _ in range(400):
                query = scrap(6)
                answers: list[list[int] | str] = []
                for each in both:
                    try:
                        answers.append(each.find(query))
                    except BadFilter as error:
                        answers.append(str(error))
                assert answers[0] == answers[1], query
                answered += isinstance(answers[0], list) and bool(answers[0])
            assert answered > 100
        finally:
            for each in both:
                each.catalog.close()
            connection.execute("DROP DATABASE alike WITH (FORCE)")


def test_the_index_over_words_stays_whole(tmp_path: Path) -> None:
    said = Said(f"sqlite:///{tmp_path / 'c.db'}", ["one two", "two three", ""])
    texts.put(said.catalog, said.recording, {said.ids[1]: "four", said.ids[2]: "five"})
    check = "INSERT INTO segment_words (segment_words, rank) VALUES ('integrity-check', 1)"

    def rows() -> list[tuple[int]]:
        with closing(sqlite3.connect(tmp_path / "c.db")) as connection:
            connection.execute(check)
            connection.execute("INSERT INTO segment_words (segment_words) VALUES ('rebuild')")
            connection.execute(check)
            return connection.execute(
                "SELECT rowid FROM segment_words WHERE segment_words MATCH 'two OR five'"
            ).fetchall()

    assert rows() == [(said.ids[2],)]
    said.catalog.remove([said.recording])  # by ON DELETE CASCADE, two tables away
    assert rows() == []
    assert texts.transcribed(said.catalog) == 0


def test_a_text_that_is_too_long_is_refused(database_url: str) -> None:
    said = Said(database_url, ["one"])
    with pytest.raises(TranscriptError, match="at most 100,000 fit"):
        texts.put(said.catalog, said.recording, {said.ids[0]: "a" * 100_001})
    assert said.find("one") == [0]
    longest = " ".join(f"{at:05d}" for at in range(16_000))
    assert texts.put(said.catalog, said.recording, {said.ids[0]: longest})
    assert not texts.put(said.catalog, said.recording, {said.ids[0]: longest})  # nothing to write
    assert said.find("15999") == [0]
    said.catalog.close()


def test_the_postgres_index_is_used(postgres_url: str) -> None:
    """Written otherwise than in the migration, the expression would be computed for every row."""
    import psycopg

    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE planned TEMPLATE template0")
        try:
            said = Said(postgres_url.replace("/postgres?", "/planned?"), ["one", "two"])
            with said.catalog.reading() as reading:
                reading.execute(text("SET enable_seqscan = off"))
                condition = texts.condition(said.catalog, "one")
                query = select(SegmentRow.id).where(condition)
                sql = query.compile(reading.engine, compile_kwargs={"literal_binds": True})
                plan = reading.exec_driver_sql(f"EXPLAIN {sql}").scalars().all()
            assert any("ix_segment_text_words" in line for line in plan)
            said.catalog.close()
        finally:
            connection.execute("DROP DATABASE planned WITH (FORCE)")


# ----------------------------------------------------------------------------------------------------- in a query


def test_a_query_by_what_is_said(database_url: str, calls: Path, tmp_path: Path) -> None:
    folder = tmp_path / "said"
    put(folder / "mono.srt", srt((0.2, 2.9, "Good morning"), (4.5, 7.4, "I want a refund")))
    put(folder / "pair.srt", srt((0.6, 3.9, "A refund?"), (5.1, 8.9, "Never")))
    with e2vsearch.open(database_url, encoder="fake") as collection:
        collection.ingest(calls, transcripts=folder)
        result = collection.query("seg:1", text="refund", by="segment", include_self=True)
        assert {hit.text for hit in result} == {"I want a refund", "A refund?"}
        assert (result.text, result.searched, result.total) == ("refund", 2, 4)
        mono = collection.query("seg:1", text="refund", where="name = mono", include_self=True)
        assert [(hit.name, hit.text) for hit in mono] == [("mono", "I want a refund")]
        assert len(collection.query("seg:1", text="nobody says that")) == 0
        assert collection.query("seg:1", by="segment").text is None
        with pytest.raises(BadFilter):
            collection.query("seg:1", text="")


def test_a_folder_of_odd_names(calls: Path, tmp_path: Path) -> None:
    folder = tmp_path / "50% said? #1 ünï"
    put(folder / "mono.srt", srt((0.2, 2.9, "Good morning")))
    with e2vsearch.open(tmp_path / "index", encoder="fake") as collection:
        assert collection.ingest(calls / "mono.wav", transcripts=folder).transcripts == 1
